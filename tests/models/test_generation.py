import math
from functools import partial

import numpy as np
import pytest
import torch
from tiny_parts import KINDS, PASSAGES, QUESTIONS, plain_answers, plain_log_likelihoods, rag_model
from transformers import RagConfig as HuggingFaceRagConfig
from transformers import RagSequenceForGeneration

from ragtune.errors import ModelError
from ragtune.models.generation import answer_questions, generate_answers, generate_closed_book
from ragtune.models.inputs import PromptBuilder

ROWS = [[0, 1, 2], [2, 4, 1], [1, 0, 3], [3, 2, 4]]
FOUND = [[PASSAGES[row] for row in rows] for rows in ROWS]
TOKENS = 6


def eloquent(kind, **settings):
    """A random model that answers different questions differently."""
    own = {"bart": {"init_std": 0.8}, "t5": {}, "encoder-decoder": {"seed": 1}, "llama": {"init_std": 0.6}}
    return rag_model(kind, **own[kind], **settings)


def log_probs(seed=0):
    torch.manual_seed(seed)
    return torch.randn(len(QUESTIONS), 3).log_softmax(-1)


def answers_by_hand(model, prior, num_beams, marginalization="sequence"):
    """Beam search context by context, then the model's own loss for every (candidate, context) pair, in plain loops."""
    model.eval()
    builder = PromptBuilder(model.generator.prompt_tokens, PASSAGES, model.config)
    answers = []
    for question, rows, p in zip(QUESTIONS, ROWS, prior.exp().tolist(), strict=True):
        contexts = [builder.build([question], np.array([[row]])) for row in rows]
        candidates = []
        for context in contexts:
            options = {"num_beams": num_beams, "num_return_sequences": num_beams, "max_new_tokens": TOKENS}
            beams = plain_answers(model.generator, context, **options)
            candidates += [tuple(trimmed(model, beam.tolist())) for beam in beams]
        best = (-math.inf, ())
        for candidate in dict.fromkeys(candidates):
            per_context = [
                plain_log_likelihoods(model.generator, context["input_ids"][0], candidate).tolist()
                for context in contexts
            ]
            if marginalization == "sequence":
                total = math.log(sum(p_k * math.exp(sum(lls)) for p_k, lls in zip(p, per_context, strict=True)))
            else:
                tokens = zip(*per_context, strict=True)
                total = sum(math.log(sum(p_k * math.exp(ll) for p_k, ll in zip(p, t, strict=True))) for t in tokens)
            best = max(best, (total, candidate))
        answers.append((best[0], model.generator.tokenizer.decode(best[1], skip_special_tokens=True).strip()))
    return answers


def trimmed(model, tokens):
    end = model.generator.tokenizer.eos_token_id
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_are_the_best_candidates_by_brute_force(kind, num_beams):
    model = eloquent(kind)
    found = answer_questions(model, QUESTIONS, FOUND, log_probs(), num_beams, max_new_tokens=TOKENS)
    expected = answers_by_hand(model, log_probs(), num_beams)
    assert [answer.text for answer in found] == [text for _, text in expected]
    assert [answer.log_likelihood for answer in found] == pytest.approx([ll for ll, _ in expected], rel=1e-5, abs=1e-4)
    assert len({answer.text for answer in found}) > 1


def test_a_rag_token_model_scores_candidates_by_its_own_likelihood():
    model = eloquent("t5", marginalization="token")
    found = answer_questions(model, QUESTIONS, FOUND, log_probs(), 3, max_new_tokens=TOKENS)
    expected = answers_by_hand(model, log_probs(), 3, marginalization="token")
    assert [answer.text for answer in found] == [text for _, text in expected]
    assert [answer.log_likelihood for answer in found] == pytest.approx([ll for ll, _ in expected], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("settings", [{}, {"forced_bos_token_id": 0}], ids=["free", "forced-bos"])
def test_answers_equal_hugging_faces(num_beams, settings):
    """On contexts of equal length and answers of two tokens or more.

    transformers sets the attention mask to None while it proposes, so that its candidates are made from padding too;
    and it forgets p(z | x) where a candidate has one token only.
    """
    equal, distinct = 0, set()
    for seed in range(3):
        model = rag_model("bart", seed, init_std=0.8, **settings)
        model.config.max_input_tokens = 24
        config = HuggingFaceRagConfig.from_question_encoder_generator_configs(
            model.question_encoder.backbone.config,
            model.generator.backbone.config,
            n_docs=3,
            bos_token_id=model.generator.backbone.config.bos_token_id,
        )
        theirs = RagSequenceForGeneration(
            config, question_encoder=model.question_encoder.backbone, generator=model.generator.backbone
        ).eval()
        prompts = PromptBuilder(model.generator.prompt_tokens, PASSAGES, model.config).build(QUESTIONS, np.array(ROWS))
        assert prompts["attention_mask"].all()
        prior = log_probs(seed)
        sequences = theirs.generate(
            context_input_ids=prompts["input_ids"],
            context_attention_mask=prompts["attention_mask"],
            doc_scores=prior,
            n_docs=3,
            num_beams=num_beams,
            max_new_tokens=TOKENS,
            min_new_tokens=2,
        )
        expected = model.generator.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        model.generator.backbone.generate = partial(model.generator.backbone.generate, min_new_tokens=2)
        ours = generate_answers(model, QUESTIONS, FOUND, prior, num_beams, max_new_tokens=TOKENS)
        equal += sum(a == b.strip() for a, b in zip(ours, expected, strict=True))
        distinct |= set(ours)
    assert equal == 3 * len(QUESTIONS)
    assert len(distinct) > 6


@pytest.mark.parametrize("kind", KINDS)
def test_the_generators_own_generation_config_does_not_leak_into_answers(kind):
    model = eloquent(kind)
    expected = generate_answers(model, QUESTIONS, FOUND, log_probs(), num_beams=2, max_new_tokens=TOKENS)
    own = model.generator.backbone.generation_config
    own.min_length, own.no_repeat_ngram_size, own.repetition_penalty, own.length_penalty = 5, 1, 3.0, -2.0
    assert generate_answers(model, QUESTIONS, FOUND, log_probs(), num_beams=2, max_new_tokens=TOKENS) == expected
    assert model.generator.backbone.generation_config is own  # and is saved with the model


def test_contexts_are_encoded_once():
    model = eloquent("bart")
    rows = []
    model.generator.backbone.get_encoder().register_forward_hook(
        lambda module, args, output: rows.append(len(output[0]))
    )
    generate_answers(model, QUESTIONS, FOUND, log_probs(), num_beams=3, max_new_tokens=TOKENS)
    assert rows == [3 * len(QUESTIONS)]


@pytest.mark.parametrize("kind", KINDS)
def test_batching_changes_no_answer(kind):
    model = eloquent(kind)
    options = {"num_beams": 2, "max_new_tokens": TOKENS}
    together = answer_questions(model, QUESTIONS, FOUND, log_probs(), **options, batch_size=16)
    alone = answer_questions(model, QUESTIONS, FOUND, log_probs(), **options, batch_size=1)
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.log_likelihood for a in together] == pytest.approx([a.log_likelihood for a in alone], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_scoring_in_parts_changes_no_answer(kind, monkeypatch):
    model = eloquent(kind)
    whole = answer_questions(model, QUESTIONS, FOUND, log_probs(), max_new_tokens=TOKENS)
    monkeypatch.setattr("ragtune.models.generators.decoding._LOGITS_AT_ONCE", 1)
    parts = answer_questions(model, QUESTIONS, FOUND, log_probs(), max_new_tokens=TOKENS)
    assert [a.text for a in parts] == [a.text for a in whole]


def test_questions_may_have_fewer_passages_than_others():
    model = eloquent("bart")
    scores = log_probs()
    fewer = [FOUND[0][:1], *FOUND[1:]]
    scores[0, 1:] = -math.inf
    found = answer_questions(model, QUESTIONS, fewer, scores, max_new_tokens=TOKENS)
    alone = answer_questions(model, QUESTIONS[:1], fewer[:1], scores[:1], max_new_tokens=TOKENS)
    assert found[0].text == alone[0].text
    assert found[0].doc_probs.tolist() == [1.0]
    assert len(found[1].doc_probs) == 3


def test_doc_probs_are_the_prior_also_when_given_as_scores():
    model = eloquent("bart")
    scores = np.array([[3.0, 1.0, 0.0]] * 4, dtype=np.float32)
    expected = torch.from_numpy(scores).softmax(-1).numpy()
    found = answer_questions(model, QUESTIONS, FOUND, scores, max_new_tokens=TOKENS)
    np.testing.assert_allclose(np.stack([answer.doc_probs for answer in found]), expected, atol=1e-6)


def test_the_prior_decides_between_passages():
    model = eloquent("bart")
    texts = set()
    for k in range(3):
        scores = torch.full((4, 3), -60.0)
        scores[:, k] = 0.0
        texts.add(tuple(generate_answers(model, QUESTIONS, FOUND, scores, num_beams=1, max_new_tokens=TOKENS)))
    assert len(texts) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_closed_book_answers_are_the_generators_own(kind):
    model = eloquent(kind)
    bare = model.generator.tokenizer(QUESTIONS, add_special_tokens=False)["input_ids"]
    inputs = model.generator.prompt_tokens.pad(bare)
    sequences = plain_answers(model.generator, inputs, num_beams=2, max_new_tokens=TOKENS)
    expected = model.generator.tokenizer.batch_decode(sequences, skip_special_tokens=True)
    found = generate_closed_book(model, QUESTIONS, num_beams=2, max_new_tokens=TOKENS, batch_size=3)
    assert found == [text.strip() for text in expected]


def test_training_mode_is_left_as_it_was():
    model = eloquent("bart").train()
    generate_answers(model, QUESTIONS, FOUND, log_probs(), max_new_tokens=TOKENS)
    assert model.generator.training


def test_no_questions_have_no_answers():
    assert generate_answers(eloquent("bart"), [], [], np.empty((0, 3))) == []


def test_a_question_without_passages_is_an_error():
    with pytest.raises(ModelError, match="generate_closed_book"):
        generate_answers(eloquent("bart"), QUESTIONS, [*FOUND[:3], []], log_probs())


def test_more_passages_than_scores_are_an_error():
    with pytest.raises(ModelError, match="3 passages, but scores of 2"):
        generate_answers(eloquent("bart"), QUESTIONS, FOUND, log_probs()[:, :2])
