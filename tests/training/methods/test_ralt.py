"""ralt: the generator learns from prompts with retrieved passages, one each or all in one."""

import numpy as np
import pytest
import torch
from world import CITIES, COUNTRIES, PASSAGES

from ragtune.errors import TrainingError
from ragtune.knowledge.retrieved import Retrieved
from ragtune.models.checkpoint import load_model, save_model
from ragtune.models.generation import answer_questions
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.methods.base import InputTokens
from ragtune.training.methods.live_passages import PassageTokens
from ragtune.training.methods.rag import generator_inputs
from ragtune.training.methods.ralt import Ralt, RaltOptions
from ragtune.training.trained import TrainedParts

QUESTIONS = [f"what is the capital of {country} ?" for country in COUNTRIES[:3]]
ROWS = np.array([[7, 0, 4], [4, 2, 1], [2, 9, -1]])
QUIET = {"report_to": "none", "n_docs": 3, "temperature": 0.1, "logging_steps": 1, "save_strategy": "no"}
TOGETHER = pytest.mark.parametrize("together", [False, True], ids=["each", "together"])


@pytest.fixture
def make_parts(still_world):
    """In double precision and without dropout."""

    def make(**options):
        method = Ralt(RaltOptions(**options))
        config = RagConfig(n_docs=3, marginalization=method.marginalization)
        return TrainedParts(RagModel.from_parts(*still_world.parts.values(), config).double(), method)

    return make


def inputs_of(parts):
    rag = parts.rag
    labels = rag.generator.tokenizer(CITIES[:3], return_tensors="pt")["input_ids"]
    found = Retrieved(ROWS, np.zeros(ROWS.shape, np.float32), np.zeros((*ROWS.shape, 32), np.float32))
    prompts = PromptBuilder(rag.generator.prompt_tokens, PASSAGES, rag.config)
    batch = {"question": QUESTIONS, "labels": labels, "answers": [[CITIES[4]], [CITIES[1], CITIES[4]], [CITIES[0]]]}
    return parts.method.inputs(batch, found, InputTokens(prompts, PassageTokens(rag.passage_encoder, PASSAGES)))


def prompts_of(together):
    """Every example's prompt as a text, and the number of its question."""
    texts = [[f"{PASSAGES[row].title} / {PASSAGES[row].text}" for row in own if row >= 0] for own in ROWS.tolist()]
    if together:
        return [(" ".join(texts[b]) + f" // {QUESTIONS[b]}", b) for b in range(3)]
    return [(f"{text} // {QUESTIONS[b]}", b) for b in range(3) for text in texts[b]]


@TOGETHER
def test_the_loss_is_the_answers_alone_and_reaches_the_generator_alone(make_parts, together):
    """Against one forward pass of transformers per prompt; of the prompt's own tokens nothing is predicted."""
    parts = make_parts(together=together)
    inputs, tokenizer = inputs_of(parts), parts.rag.generator.tokenizer
    losses = []
    for prompt, number in prompts_of(together):
        labels = inputs["labels"][number : number + 1]
        losses.append(parts.rag.generator.backbone(**tokenizer(prompt, return_tensors="pt"), labels=labels).loss)
    expected = torch.stack(losses).mean() * inputs["labels"].shape[1]
    loss = parts(**inputs).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    moved = {name.split(".")[0] for name, weight in parts.rag.named_parameters() if weight.grad is not None}
    assert moved == {"generator"}


def test_passages_without_an_answer_are_no_examples_where_that_is_asked_for(make_parts):
    parts = make_parts(examples="supported")
    inputs = inputs_of(parts)
    assert inputs["example_mask"].tolist() == [[False, False, True], [True, False, True], [False, False, False]]
    each = parts.rag.token_log_likelihoods(**generator_inputs(inputs)).sum(-1)
    torch.testing.assert_close(parts(**inputs).loss, -(each[0, 2] + each[1, 0] + each[1, 2]) / 3)
    none = inputs | {"example_mask": torch.zeros_like(inputs["example_mask"])}
    loss = parts(**none).loss
    loss.backward()
    assert loss == 0


def test_passages_in_one_prompt_are_one_example():
    with pytest.raises(TrainingError, match="together=True puts all passages into one prompt; leave out examples"):
        RaltOptions(together=True, examples="supported")


@TOGETHER
def test_the_generator_learns_and_the_retriever_stays(make_trainer, together):
    rates = {"learning_rate": 3e-3, "per_device_train_batch_size": 24}
    options = {"together": together}
    trainer = make_trainer(method="ralt", method_options=options, max_steps=4, eval_steps=4, **QUIET, **rates)
    before = {name: weight.clone() for name, weight in trainer.rag.state_dict().items()}
    trainer.train()
    moved = {name.split(".")[0] for name, weight in trainer.rag.state_dict().items() if not weight.equal(before[name])}
    assert moved == {"generator"}
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert all("eval_em" in entry for entry in trainer.state.log_history if "eval_loss" in entry)
    assert trainer.args.metric_for_best_model == "em"
    assert not any("entropy" in entry for entry in trainer.state.log_history)  # of a retriever that does not learn


def test_a_model_of_passages_together_is_asked_as_it_was_trained(make_parts, tmp_path):
    parts = make_parts(together=True)
    save_model(parts.rag.float(), tmp_path / "model")
    model = load_model(tmp_path / "model")
    passages = [[PASSAGES[row] for row in own if row >= 0] for own in ROWS.tolist()]
    answers = answer_questions(model, QUESTIONS, passages, np.zeros(ROWS.shape), num_beams=1, max_new_tokens=3)
    tokenizer = model.generator.tokenizer
    for (prompt, _), answer in zip(prompts_of(together=True), answers, strict=True):
        inputs = tokenizer(prompt, return_tensors="pt")
        tokens = model.generator.backbone.generate(**inputs, num_beams=1, do_sample=False, max_new_tokens=3)
        assert answer.text == tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
        labels = tokens[:, 1:]
        loss = model.generator.backbone(**inputs, labels=labels).loss.item()
        assert answer.log_likelihood == pytest.approx(-loss * labels.shape[1], rel=1e-4)
    assert [len(answer.doc_probs) for answer in answers] == [3, 3, 2]
