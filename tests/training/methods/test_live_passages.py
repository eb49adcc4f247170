"""rag-end2end's loss and gradients, held against the plain computation of every passage for every question."""

import numpy as np
import pytest
import torch
from tiny_models import save_tiny_parts
from world import CITIES, COUNTRIES, PASSAGES

from ragtune.models.inputs import PromptBuilder
from ragtune.models.losses import posterior
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.methods.end2end import RagEnd2End
from ragtune.training.methods.live_passages import PASSAGE_INPUTS, PassageTokens
from ragtune.training.trained import TrainedParts

QUESTIONS = [f"what is the capital of {country} ?" for country in COUNTRIES[:3]]
ROWS = np.array([[7, 4, 0], [4, 2, 7], [2, 9, -1]])


@pytest.fixture(params=["dpr", "sentence-transformers"])
def parts(request, still_world, tmp_path):
    """In double precision and without dropout."""
    folders = tuple(still_world.parts.values())
    if request.param == "dpr":
        texts = [f"{passage.title} {passage.text}" for passage in PASSAGES] + QUESTIONS
        folders = save_tiny_parts(tmp_path, texts)
    model = RagModel.from_parts(*folders, RagConfig(n_docs=3, temperature=0.5)).double()
    return TrainedParts(model, RagEnd2End()).eval()


def batch_of(parts, rows=ROWS):
    rag = parts.rag
    prompts = PromptBuilder(rag.generator.prompt_tokens, PASSAGES, rag.config).build(QUESTIONS, rows)
    questions = rag.question_encoder.tokenizer(QUESTIONS, padding=True, return_tensors="pt")
    return {
        "context_input_ids": prompts["input_ids"],
        "context_attention_mask": prompts["attention_mask"],
        "labels": rag.generator.tokenizer(CITIES[:3], return_tensors="pt")["input_ids"],
        "question_input_ids": questions["input_ids"],
        "question_attention_mask": questions["attention_mask"],
        "doc_mask": torch.from_numpy(rows >= 0),
        **PassageTokens(rag.passage_encoder, PASSAGES).build(rows),
    }


def one_by_one(encoder, rows):
    """Every retrieved passage encoded alone, as often as it was retrieved; 0 for padding."""
    vectors = []
    for row in rows.ravel().tolist():
        if row < 0:
            vectors.append(torch.zeros(encoder.dimension, dtype=torch.double))
        else:
            ids = torch.tensor(encoder.tokenize_passages([PASSAGES[row]]))
            vectors.append(encoder(ids, torch.ones_like(ids))[0])
    return torch.stack(vectors).view(*rows.shape, -1)


def plain_loss(parts, batch, rows=ROWS):
    """-log Σ_k softmax(q·d/τ)_k Π_t p(y_t | …), by loops."""
    rag = parts.rag
    docs = one_by_one(rag.passage_encoder, rows)
    queries = rag.question_encoder(batch["question_input_ids"], batch["question_attention_mask"])
    losses = []
    for b in range(len(rows)):
        kept = [k for k in range(rows.shape[1]) if rows[b, k] >= 0]
        prior = torch.stack([queries[b] @ docs[b, k] / rag.config.temperature for k in kept]).softmax(0)
        likelihoods = []
        for k in kept:
            context = slice(b * rows.shape[1] + k, b * rows.shape[1] + k + 1)
            labels = batch["labels"][b : b + 1]
            inputs = {"input_ids": batch["context_input_ids"][context], "labels": labels}
            mean = rag.generator.backbone(attention_mask=batch["context_attention_mask"][context], **inputs).loss
            likelihoods.append(torch.exp(-mean * labels.shape[1]))
        losses.append(-torch.log((prior * torch.stack(likelihoods)).sum()))
    return torch.stack(losses).mean()


def gradients(parts):
    found = {name: p.grad for name, p in parts.named_parameters() if p.grad is not None}
    parts.zero_grad()
    return found


def test_loss_and_every_gradient_equal_the_plain_computation(parts):
    batch = batch_of(parts)
    expected = plain_loss(parts, batch)
    expected.backward()
    of_plain = gradients(parts)
    loss = parts(**batch).loss
    loss.backward()
    of_ours = gradients(parts)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    assert of_ours.keys() == of_plain.keys()
    for part in ("question_encoder.", "passage_encoder.", "generator."):
        largest = max(gradient.abs().max() for name, gradient in of_ours.items() if name.startswith(part))
        assert largest > 1e-4, part
    for name, gradient in of_ours.items():
        torch.testing.assert_close(gradient, of_plain[name], rtol=1e-5, atol=1e-9, msg=name)


def test_the_passage_encoders_gradient_equals_finite_differences(parts):
    batch = batch_of(parts)
    parts(**batch).loss.backward()
    name, weight = max(
        ((n, p) for n, p in parts.rag.passage_encoder.named_parameters() if p.grad is not None),
        key=lambda pair: pair[1].grad.abs().max(),
    )
    place = int(weight.grad.abs().argmax())
    losses, step = [], 1e-5
    for sign in (1, -1):
        with torch.no_grad():
            weight.view(-1)[place] += sign * step
            losses.append(parts(**batch).loss.item())
            weight.view(-1)[place] -= sign * step
    assert weight.grad.view(-1)[place].item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4), name


def test_the_gradient_by_a_score_is_prior_minus_posterior(parts):
    output = parts(**batch_of(parts))
    output.doc_scores.retain_grad()
    output.loss.backward()
    r = posterior(output.doc_log_probs, output.answer_log_likelihoods)
    expected = (output.doc_log_probs.exp() - r) / len(QUESTIONS)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(output.doc_scores.grad, expected.detach(), rtol=1e-5, atol=1e-8)
    assert output.doc_scores.grad[2, 2] == 0  # padding


def test_with_stored_vectors_equal_to_live_ones_the_loss_is_rags(parts):
    parts.passage_encoder.requires_grad_(False)
    batch = batch_of(parts)
    stored = {name: value for name, value in batch.items() if name not in PASSAGE_INPUTS}
    stored["doc_embeddings"] = one_by_one(parts.rag.passage_encoder, ROWS)
    live, rag = parts(**batch).loss, -parts.rag(**stored).log_likelihoods.mean()
    torch.testing.assert_close(live, rag, rtol=1e-6, atol=1e-9)
    live.backward()
    of_live = gradients(parts)
    rag.backward()
    for name, gradient in gradients(parts).items():
        torch.testing.assert_close(of_live[name], gradient, rtol=1e-5, atol=1e-9, msg=name)
    assert not any(name.startswith("passage_encoder") for name in of_live)


def test_each_distinct_passage_stands_once_and_is_tokenised_once(parts, monkeypatch):
    encoder = parts.rag.passage_encoder
    tokens = PassageTokens(encoder, PASSAGES)
    asked = []
    tokenize = encoder.tokenize_passages
    monkeypatch.setattr(encoder, "tokenize_passages", lambda passages: asked.extend(passages) or tokenize(passages))
    built = tokens.build(ROWS)
    assert built["passage_input_ids"].shape[0] == 5
    assert built["passage_places"].tolist() == [[3, 2, 0], [2, 1, 3], [1, 4, 0]]
    tokens.build(np.array([[7, 11]]))
    assert [passage.id for passage in asked] == ["p0", "p2", "p4", "p7", "p9", "p11"]


def test_the_live_vectors_are_those_that_the_knowledge_base_is_made_of(parts):
    encoder = parts.rag.passage_encoder
    built = PassageTokens(encoder, PASSAGES).build(ROWS)
    live = encoder(built["passage_input_ids"], built["passage_attention_mask"])[built["passage_places"]]
    stored = encoder.encode_passages(PASSAGES, precision="float32")
    assert live.detach().numpy()[ROWS >= 0] == pytest.approx(stored[ROWS[ROWS >= 0]], abs=1e-6)


def test_parameters_that_no_vector_depends_on_stay_frozen(parts):
    frozen = [name for name, p in parts.passage_encoder.named_parameters() if not p.requires_grad]
    assert all("pooler" in name for name in frozen)
    parts(**batch_of(parts)).loss.backward()
    assert all(p.grad is not None for p in parts.parameters() if p.requires_grad)  # else DDP stops


def test_checkpointed_activations_change_neither_loss_nor_gradients(parts):
    parts.train()
    batch = batch_of(parts)
    torch.manual_seed(0)  # of the dropout
    kept = parts(**batch).loss
    kept.backward()
    expected = gradients(parts)
    parts.activation_checkpointing_enable()
    torch.manual_seed(0)
    again = parts(**batch).loss
    again.backward()
    assert again.item() == kept.item()
    for name, gradient in gradients(parts).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
