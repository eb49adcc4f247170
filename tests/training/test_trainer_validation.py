"""An evaluation's figures, against the same questions answered one at a time."""

import pytest
import torch
from world import PASSAGES

from ragtune.models.generation import generate_answers
from ragtune.models.rag import RagConfig, RagModel

PARAMETERS = {"report_to": "none", "n_docs": 3, "max_steps": 1, "eval_strategy": "no", "save_strategy": "no"}


def answers(trainer, order=slice(None)):
    """From each question's best passages, in another order or fewer of them where asked for."""
    model = trainer.rag.eval()
    given = []
    for question in trainer.eval_dataset["question"]:
        found = trainer.knowledge.search(model.question_encoder.encode([question]), model.config.n_docs)
        passages = [PASSAGES[row] for row in found.rows[0]][order]
        scores = torch.from_numpy(found.scores / model.config.temperature)
        given += generate_answers(model, [question], [passages], scores[:, : len(passages)], num_beams=1)
    return given


@pytest.mark.parametrize(
    ("temperature", "wrong"),
    [(1e-3, slice(None, None, -1)), (1.0, slice(1))],  # the best passage decides; all have a say
    ids=["reversed", "first alone"],
)
def test_every_question_is_answered_from_all_its_passages_best_first(make_trainer, still_world, temperature, wrong):
    """By a generator whose answers, though none is right, depend on the question and on each of its passages."""
    config = RagConfig(n_docs=3, temperature=temperature, max_answer_tokens=4)
    model = RagModel.from_parts(*still_world.parts.values(), config)
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight *= 3 if weight.dim() > 1 else 1
    trainer = make_trainer(model=model, temperature=temperature, **PARAMETERS)
    right = answers(trainer)
    rows = [row | {"answers": [answer]} for row, answer in zip(trainer.eval_dataset, right, strict=True)]
    assert trainer.evaluate(rows)["eval_em"] == 1
    assert right != right[::-1]
    assert right != answers(trainer, wrong)


def test_an_evaluation_computes_without_dropout(make_trainer, world):
    model = RagModel.from_parts(*world.parts.values(), RagConfig(n_docs=3, temperature=0.5))
    trainer = make_trainer(model=model, temperature=0.5, **PARAMETERS)
    figures = []
    for _ in range(2):
        trainer.model.train()  # as it is between two steps
        figures.append(trainer.evaluate()["eval_loss"])
    assert figures[0] == figures[1]


def test_the_loss_of_an_evaluation_is_over_n_docs_passages_though_recall_asks_for_more(make_trainer, still_world):
    model = RagModel.from_parts(*still_world.parts.values(), RagConfig(n_docs=2, temperature=0.5))
    trainer = make_trainer(model=model, temperature=0.5, **PARAMETERS | {"n_docs": 2})
    seen, inputs = [], trainer.method.inputs
    trainer.method.inputs = lambda batch, found, tokens: (
        seen.append(found.rows.shape[1]) or inputs(batch, found, tokens)
    )
    figures = trainer.evaluate()
    assert "eval_recall@5" in figures
    assert set(seen) == {2}
