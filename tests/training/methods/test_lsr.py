"""lsr's loss and gradients against their formulas, and a retriever that learns from a generator that stays."""

import math

import numpy as np
import pytest
import torch
from exact_search import ExactSearch
from world import CITIES, COUNTRIES, PASSAGES

from ragtune.errors import TrainingError
from ragtune.knowledge.retrieved import Retrieved
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.methods.base import InputTokens
from ragtune.training.methods.candidates import best_candidates, live_scores
from ragtune.training.methods.live_passages import PassageTokens
from ragtune.training.methods.lsr import Lsr, LsrOptions
from ragtune.training.rules import check_training
from ragtune.training.trained import TrainedParts

QUESTIONS = [f"what is the capital of {country} ?" for country in COUNTRIES[:3]]
ROWS = np.array([[7, 0, 4], [4, 2, 1], [2, 9, -1]])
TEMPERATURE, OWN_TEMPERATURE, ANSWER_TEMPERATURE = 0.5, 0.2, 0.3
QUIET = {"report_to": "none", "n_docs": 3, "temperature": 0.1, "logging_steps": 1, "save_strategy": "no"}
SIDES = pytest.mark.parametrize("both", [False, True], ids=["questions", "both"])


@pytest.fixture
def make_parts(still_world):
    """In double precision and without dropout."""

    def make(**options):
        model = RagModel.from_parts(*still_world.parts.values(), RagConfig(n_docs=3, temperature=TEMPERATURE)).double()
        own = {"answer_temperature": ANSWER_TEMPERATURE, "score_temperature": OWN_TEMPERATURE} | options
        return TrainedParts(model, Lsr(LsrOptions(**own)))

    return make


def inputs_of(parts, rows=ROWS):
    """As a step gets them, the stored vectors computed by the passage encoder as it is now."""
    rag = parts.rag
    questions = rag.question_encoder.tokenizer(QUESTIONS, padding=True, return_tensors="pt")
    labels = rag.generator.tokenizer(CITIES[:3], return_tensors="pt")["input_ids"]
    batch = {"question": QUESTIONS, "labels": labels, **{f"question_{name}": questions[name] for name in questions}}
    stored = rag.passage_encoder.encode_passages(PASSAGES, precision="float32")[rows] * (rows >= 0)[..., None]
    found = Retrieved(rows, np.zeros(rows.shape, np.float32), stored)
    prompts = PromptBuilder(rag.generator.prompt_tokens, PASSAGES, rag.config)
    return parts.method.inputs(batch, found, InputTokens(prompts, PassageTokens(rag.passage_encoder, PASSAGES)))


def distributions(parts, inputs, rows=ROWS):
    """log p(y | x, z) per token, and P by its formula, by loops over questions and passages."""
    rag = parts.rag
    own = live_scores(rag, inputs).detach() * TEMPERATURE / OWN_TEMPERATURE
    means, priors = [], []
    for b in range(len(rows)):
        kept = [k for k in range(rows.shape[1]) if rows[b, k] >= 0]
        row = []
        for k in kept:
            context = slice(b * rows.shape[1] + k, b * rows.shape[1] + k + 1)
            mask = inputs["context_attention_mask"][context]
            texts = {"input_ids": inputs["context_input_ids"][context], "labels": inputs["labels"][b : b + 1]}
            row.append(-rag.generator.backbone(attention_mask=mask, **texts).loss.detach())
        means.append(torch.stack(row))
        priors.append(own[b, kept].softmax(0))
    return means, priors


def target_of(objective, mean, prior, tokens):
    if objective == "emdr":
        weights = prior * torch.exp(mean * tokens)
        return weights / weights.sum()
    return ((mean.exp() if objective == "replug" else mean) / ANSWER_TEMPERATURE).softmax(0)


def options_of(objective):
    return {"objective": objective} | ({"answer_temperature": 0.1} if objective == "emdr" else {})


@SIDES
@pytest.mark.parametrize("objective", ["perplexity", "replug", "emdr"])
def test_the_gradient_by_a_product_is_p_minus_q_over_the_temperature_and_the_batch(make_parts, objective, both):
    parts = make_parts(**options_of(objective), train_passage_encoder=both)
    inputs = inputs_of(parts)
    output = parts(**inputs)
    output.doc_scores.retain_grad()
    output.loss.backward()
    of_products = output.doc_scores.grad / TEMPERATURE  # s = q·d/τ of the model
    tokens, losses = inputs["labels"].shape[1], []
    for b, (mean, prior) in enumerate(zip(*distributions(parts, inputs), strict=True)):
        target = target_of(objective, mean, prior, tokens)
        expected = (prior - target) / OWN_TEMPERATURE / len(ROWS)
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(of_products[b, : len(expected)], expected, rtol=1e-5, atol=1e-9)
        divergence = (target * (target / prior).log()).sum()
        losses.append(-(prior * torch.exp(mean * tokens)).sum().log() if objective == "emdr" else divergence)
    assert of_products[2, 2] == 0  # padding
    torch.testing.assert_close(output.loss, torch.stack(losses).mean(), rtol=1e-5, atol=1e-9)


@SIDES
def test_the_gradient_reaches_every_weight_of_the_encoders_and_none_of_the_generator(make_parts, both):
    """The scores are no leaves made of numbers: what they were computed with learns."""
    parts = make_parts(train_passage_encoder=both)
    parts(**inputs_of(parts)).loss.backward()
    learn = {"question_encoder"} | ({"passage_encoder"} if both else set())
    assert parts.trained == learn
    for name, parameter in parts.rag.named_parameters():
        learns = name.split(".")[0] in learn and "pooler" not in name
        assert (parameter.grad is not None) == learns, name
    for part in learn:
        largest = max(p.grad.abs().max() for p in getattr(parts, part).parameters() if p.grad is not None)
        assert largest > 1e-3, part


@pytest.mark.parametrize("part", ["question_encoder", "passage_encoder"])
def test_an_encoders_gradient_equals_finite_differences(make_parts, part):
    parts = make_parts(train_passage_encoder=True)
    inputs = inputs_of(parts)
    parts(**inputs).loss.backward()
    weights = [weight for weight in getattr(parts.rag, part).parameters() if weight.grad is not None]
    weight = max(weights, key=lambda weight: weight.grad.abs().max())
    place, step = int(weight.grad.abs().argmax()), 1e-5
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.view(-1)[place] += sign * step
            losses.append(parts(**inputs).loss.item())
            weight.view(-1)[place] -= sign * step
    assert weight.grad.view(-1)[place].item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4)


def test_both_entropies_are_told(make_parts):
    parts = make_parts()
    inputs = inputs_of(parts)
    metrics = parts(**inputs).metrics
    pairs = list(zip(*distributions(parts, inputs), strict=True))
    of_retriever = [-(prior * prior.log()).sum() for _, prior in pairs]
    targets = [target_of("perplexity", mean, None, 0) for mean, _ in pairs]
    of_generator = [-(target * target.log()).sum() for target in targets]
    assert metrics["retriever_entropy"].item() == pytest.approx(float(torch.stack(of_retriever).mean()), rel=1e-5)
    assert metrics["generator_entropy"].item() == pytest.approx(float(torch.stack(of_generator).mean()), rel=1e-5)


@SIDES
def test_of_more_candidates_the_best_by_the_encoders_as_they_are_now_are_kept(make_parts, both):
    many = np.array([[11, 7, 5, 0, 4], [8, 4, 2, 1, 6], [2, 9, -1, -1, -1]])
    parts = make_parts(n_candidates=5, train_passage_encoder=both).train()
    inputs = inputs_of(parts, many)
    scores = live_scores(parts.rag, inputs).detach().masked_fill(~inputs["doc_mask"], -math.inf)
    best = np.take_along_axis(many, scores.argsort(descending=True)[:, :3].numpy(), 1)
    assert not np.array_equal(np.sort(best), np.sort(many[:, :3]))
    results = []
    for given in (inputs, inputs_of(parts, best)):
        output = parts(**given)
        output.loss.backward()
        results.append((output, {name: p.grad for name, p in parts.named_parameters() if p.grad is not None}))
        parts.zero_grad()
    (ours, of_ours), (expected, of_expected) = results
    torch.testing.assert_close(ours.doc_log_probs, expected.doc_log_probs)
    torch.testing.assert_close(ours.loss, expected.loss)
    assert of_ours.keys() == of_expected.keys()
    for name, gradient in of_ours.items():
        torch.testing.assert_close(gradient, of_expected[name], rtol=1e-5, atol=1e-9, msg=name)


def test_the_best_are_chosen_without_dropout_and_padding_is_none_of_them_however_it_scores(make_parts):
    parts = make_parts(n_candidates=5).train()
    inputs = inputs_of(parts, np.array([[11, 7, 5, 0, 4], [8, 4, 2, 1, 6], [2, 9, 3, -1, -1]]))
    asked = parts.rag.question_encoder(inputs["question_input_ids"], inputs["question_attention_mask"]).detach()
    inputs["doc_embeddings"] = inputs["doc_embeddings"].clone()
    inputs["doc_embeddings"][2, 3:] = 100 * asked[2].to(inputs["doc_embeddings"].dtype)
    modes = []
    parts.rag.question_encoder.register_forward_hook(lambda encoder, *_: modes.append(encoder.training))
    assert sorted(best_candidates(parts.rag, inputs, 3)[2].tolist()) == [0, 1, 2]
    assert modes == [False] and parts.rag.question_encoder.training


def test_an_evaluation_takes_the_candidates_that_its_answers_rest_on(make_parts):
    many = np.array([[11, 7, 5, 0, 4], [8, 4, 2, 1, 6], [2, 9, 3, 0, 1]])
    parts = make_parts(n_candidates=5).eval()
    scores, expected = (parts(**inputs_of(parts, rows)).doc_log_probs for rows in (many, many[:, :3]))
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("candidates", [0, 8])
def test_the_retriever_learns_and_the_generator_stays(make_trainer, candidates):
    options = {"n_candidates": candidates}
    rates = {"learning_rate": 1e-3, "per_device_train_batch_size": 24}
    trainer = make_trainer(method="lsr", method_options=options, max_steps=8, eval_steps=4, **QUIET, **rates)
    before = {name: weight.clone() for name, weight in trainer.rag.state_dict().items()}
    trainer.train()
    moved = {name.split(".")[0] for name, weight in trainer.rag.state_dict().items() if not weight.equal(before[name])}
    assert moved == {"question_encoder"}
    assert not trainer.model.generator.training
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean([entry["loss"] for entry in logged[-2:]]) < 0.9 * np.mean([entry["loss"] for entry in logged[:2]])
    assert all(0 < entry[f"{side}_entropy"] < math.log(3) for entry in logged for side in ("retriever", "generator"))
    assert f"train_recall@{candidates or 3}" in logged[0]
    assert trainer.args.metric_for_best_model == "recall@1"
    assert isinstance(trainer.knowledge, ExactSearch)


def test_settings_that_do_not_go_together_are_refused_before_anything_is_loaded():
    with pytest.raises(TrainingError, match="n_candidates=4: of which the best n_docs=5 are kept; give that many"):
        check_training({"method": "lsr", "method_options": {"n_candidates": 4}, "n_docs": 5})
    with pytest.raises(TrainingError, match="answer_temperature has no effect with objective=emdr"):
        check_training({"method": "lsr", "method_options": {"objective": "emdr", "answer_temperature": 0.5}})
