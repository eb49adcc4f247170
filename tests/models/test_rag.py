import pytest
import torch
from tiny_parts import KINDS, PASSAGES, QUESTIONS, dpr_encoder, plain_log_likelihoods, rag_model, tiny_generator
from transformers import RagConfig as HuggingFaceRagConfig
from transformers import RagSequenceForGeneration, RagTokenForGeneration

from ragtune.errors import ModelError
from ragtune.models.inputs import PromptBuilder
from ragtune.models.losses import posterior
from ragtune.models.rag import RagConfig, RagModel

ANSWERS = ["Paris", "Rome is the capital", "it isn't", "Yamoussoukro"]
ROWS = torch.tensor([[0, 1, 2], [2, 4, 1], [1, 0, 3], [3, 2, -1]])


def batch_of(model, answers=ANSWERS):
    """Questions, retrieved passages (the last question has one document fewer), and answers padded with -100."""
    prompts = PromptBuilder(model.generator.prompt_tokens, PASSAGES, model.config).build(QUESTIONS, ROWS)
    questions = model.question_encoder.tokenizer(QUESTIONS, padding=True, return_tensors="pt")
    embeddings = torch.from_numpy(model.passage_encoder.encode_passages(PASSAGES))[ROWS]
    labels = model.generator.tokenizer(answers, padding=True, return_tensors="pt")
    return {
        "context_input_ids": prompts["input_ids"],
        "context_attention_mask": prompts["attention_mask"],
        "labels": labels["input_ids"].masked_fill(labels["attention_mask"] == 0, -100),
        "question_input_ids": questions["input_ids"],
        "question_attention_mask": questions["attention_mask"],
        "doc_embeddings": embeddings.masked_fill((ROWS < 0).unsqueeze(-1), 0.0),
        "doc_mask": ROWS >= 0,
    }


def loss_of(model, batch):
    """-log p(y | x), the mean over the batch: what the method `rag` minimises."""
    return -model(**batch).log_likelihoods.mean()


def hugging_face(model, rag_class):
    config = HuggingFaceRagConfig.from_question_encoder_generator_configs(
        model.question_encoder.backbone.config, model.generator.backbone.config, n_docs=3
    )
    return rag_class(config, question_encoder=model.question_encoder.backbone, generator=model.generator.backbone)


def hugging_face_loss(model, rag_class, batch):
    """Per example; its labels begin with the decoder's start token and are padded with the pad token."""
    labels = batch["labels"].masked_fill(batch["labels"] == -100, model.generator.backbone.config.pad_token_id)
    start = torch.full_like(labels[:, :1], model.generator.backbone.config.decoder_start_token_id)
    question = model.question_encoder(batch["question_input_ids"], batch["question_attention_mask"])
    return hugging_face(model, rag_class)(
        context_input_ids=batch["context_input_ids"],
        context_attention_mask=batch["context_attention_mask"],
        doc_scores=torch.einsum("bd,bkd->bk", question, batch["doc_embeddings"].to(question)).masked_fill(
            ~batch["doc_mask"], -1e9
        ),
        labels=torch.cat([start, labels], dim=1),
    ).loss


def encoder_gradient(model):
    return torch.cat([p.grad.flatten() for p in model.question_encoder.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("marginalization", "rag_class"), [("sequence", RagSequenceForGeneration), ("token", RagTokenForGeneration)]
)
def test_loss_equals_hugging_faces_mean_over_examples(marginalization, rag_class):
    model = rag_model("bart", marginalization=marginalization)
    batch = batch_of(model)
    expected = hugging_face_loss(model, rag_class, batch).mean()
    torch.testing.assert_close(loss_of(model, batch), expected, rtol=0, atol=1e-5)


def test_gradient_of_the_question_encoder_equals_hugging_faces():
    model = rag_model("bart").double()
    batch = batch_of(model)
    hugging_face_loss(model, RagSequenceForGeneration, batch).mean().backward()
    expected = encoder_gradient(model)
    model.zero_grad()
    loss_of(model, batch).backward()
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(encoder_gradient(model), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_answer_log_likelihoods_are_the_generators_own_loss_one_context_at_a_time(kind):
    model = rag_model(kind).double()
    batch = batch_of(model)
    found = model(**batch).answer_log_likelihoods
    for b in range(len(QUESTIONS)):
        labels = batch["labels"][b]
        for k in range(3):
            context = batch["context_attention_mask"][3 * b + k].bool()
            prompt = batch["context_input_ids"][3 * b + k, context]
            alone = plain_log_likelihoods(model.generator, prompt, labels[labels != -100])
            assert found[b, k].item() == pytest.approx(alone.sum().item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marginalization", ["sequence", "token"])
def test_the_likelihood_is_a_sum_over_passages_by_brute_force(kind, marginalization):
    model = rag_model(kind, marginalization=marginalization).double()
    batch = batch_of(model)
    found = model(**batch)
    for b, prior in enumerate(found.doc_log_probs.exp()):
        labels = batch["labels"][b]
        by_passage = []
        for k in range(3):
            context = batch["context_attention_mask"][3 * b + k].bool()
            prompt = batch["context_input_ids"][3 * b + k, context]
            by_passage.append(plain_log_likelihoods(model.generator, prompt, labels[labels != -100]).exp())
        if marginalization == "token":
            expected = sum(p * tokens for p, tokens in zip(prior, by_passage, strict=True)).log().sum()
        else:
            expected = sum(p * tokens.prod() for p, tokens in zip(prior, by_passage, strict=True)).log()
        assert found.log_likelihoods[b].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_gradient_by_a_score_is_prior_minus_posterior_over_temperature(temperature):
    model = rag_model("bart", temperature=temperature).double()
    batch = batch_of(model)
    batch["doc_embeddings"] = batch["doc_embeddings"].double().requires_grad_()
    output = model(**batch)
    (-output.log_likelihoods.mean()).backward()
    prior, r = output.doc_log_probs.exp(), posterior(output.doc_log_probs, output.answer_log_likelihoods)
    by_product = (prior - r) / temperature / len(QUESTIONS)
    question = model.question_encoder(batch["question_input_ids"], batch["question_attention_mask"])
    # The inner product's gradient reaches d_k multiplied by q.
    expected = by_product.unsqueeze(-1) * question.unsqueeze(1)
    assert by_product.abs().max() > 1e-3
    torch.testing.assert_close(batch["doc_embeddings"].grad, expected.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marginalization", ["sequence", "token"])
def test_question_encoder_and_generator_learn_and_the_passage_encoder_does_not(kind, marginalization):
    model = rag_model(kind, marginalization=marginalization)
    loss_of(model, batch_of(model)).backward()
    assert encoder_gradient(model).norm() > 1e-4
    assert all(p.grad is not None for p in model.question_encoder.parameters() if p.requires_grad)
    assert sum(p.grad.norm() for p in model.generator.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in model.passage_encoder.parameters())


def test_one_token_answers_without_bos_teach_the_encoder_where_hugging_face_gives_exactly_zero():
    model = rag_model("bart")
    batch = batch_of(model) | {"labels": torch.tensor([[40], [50], [60], [70]])}
    hugging_face_loss(model, RagSequenceForGeneration, batch).mean().backward()
    assert encoder_gradient(model).abs().max() == 0, "transformers has mended it: say so in design.md"
    model.zero_grad()
    loss_of(model, batch).backward()
    assert encoder_gradient(model).norm() > 1e-3


def test_padding_documents_change_nothing():
    model = rag_model("bart")
    batch = batch_of(model)
    without = {name: tensor[3:] for name, tensor in batch.items()}
    without |= {name: batch[name][9:11] for name in ("context_input_ids", "context_attention_mask")}
    without |= {name: batch[name][3:, :2] for name in ("doc_embeddings", "doc_mask")}
    padded = {name: tensor[9:] if name.startswith("context") else tensor[3:] for name, tensor in batch.items()}
    padded["doc_embeddings"] = padded["doc_embeddings"].clone().requires_grad_()
    output = model(**padded)
    torch.testing.assert_close(-output.log_likelihoods.mean(), loss_of(model, without))
    (-output.log_likelihoods.mean()).backward()
    assert output.doc_log_probs[0, 2].exp() == 0
    assert (padded["doc_embeddings"].grad[0, 2] == 0).all()
    assert padded["doc_embeddings"].grad[0, :2].abs().max() > 0


def test_padding_of_labels_and_contexts_changes_nothing():
    model = rag_model("t5")
    batch = batch_of(model)
    wider = dict(batch)
    wider["labels"] = torch.nn.functional.pad(batch["labels"], (0, 3), value=-100)
    wider["context_input_ids"] = torch.nn.functional.pad(batch["context_input_ids"], (0, 4))
    wider["context_attention_mask"] = torch.nn.functional.pad(batch["context_attention_mask"], (0, 4))
    torch.testing.assert_close(loss_of(model, wider), loss_of(model, batch))


def test_closed_book_loss_is_the_mean_of_the_generators_loss_per_answer():
    model = rag_model("bart")
    prompts = PromptBuilder(model.generator.prompt_tokens, PASSAGES, model.config).build_closed_book(QUESTIONS)
    labels = batch_of(model)["labels"]
    output = model(
        context_input_ids=prompts["input_ids"], context_attention_mask=prompts["attention_mask"], labels=labels
    )
    expected = [
        model.generator.backbone(
            input_ids=prompts["input_ids"][b : b + 1],
            attention_mask=prompts["attention_mask"][b : b + 1],
            labels=labels[b : b + 1],
        ).loss.item()
        * (labels[b] != -100).sum().item()
        for b in range(len(QUESTIONS))
    ]
    assert -output.log_likelihoods.mean().item() == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_bfloat16_autocast_keeps_scores_and_loss_in_float32():
    model = rag_model("bart")
    batch = batch_of(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch)
    assert output.doc_scores.dtype == output.log_likelihoods.dtype == torch.float32
    assert -output.log_likelihoods.mean().item() == pytest.approx(loss_of(model, batch).item(), rel=0.05)


def test_labels_without_a_token_are_an_error():
    model = rag_model("bart")
    batch = batch_of(model)
    batch["labels"][2] = -100
    with pytest.raises(ModelError, match=r"rows \[2\]"):
        model(**batch)


def test_a_question_without_documents_is_an_error():
    model = rag_model("bart")
    batch = batch_of(model)
    batch["doc_mask"] = batch["doc_mask"].clone()
    batch["doc_mask"][1] = False
    with pytest.raises(ModelError, match=r"rows \[1\].*no document"):
        model(**batch)


def test_encoders_of_different_dimensions_are_an_error():
    with pytest.raises(ModelError, match=r"vectors of 16.*of 8"):
        RagModel(dpr_encoder("question"), dpr_encoder("passage", dimension=8), tiny_generator("bart"), RagConfig())


@pytest.mark.parametrize(
    "settings",
    [
        {"marginalization": "passage"},
        {"temperature": 0.0},
        {"prompt": "{title} {text}"},
        {"prompt": "{title} {question} {text}"},
    ],
)
def test_impossible_settings_are_errors(settings):
    with pytest.raises(ModelError, match=next(iter(settings))):
        RagConfig(**settings)
