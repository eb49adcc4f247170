"""Questions asked of a model with a base in memory, against the same ones asked one by one."""

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

from tiny_models import save_tiny_parts

from ragtune.evaluation import asking
from ragtune.evaluation.asking import ask, ask_closed_book
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.retrieved import PADDING_ROW, Retrieved
from ragtune.models.generation import generate_answers
from ragtune.models.rag import RagConfig, RagModel

TEXTS = [f"city{n} " * (n + 1) + f"is the capital of land{n}." for n in range(6)]
QUESTIONS = [f"what is the capital of land{n}" for n in range(5)]


class InMemory:
    """Exact search; of more passages than there are, padding."""

    def __init__(self, model):
        columns = {"id": [f"w{n}" for n in range(6)], "title": ["a land"] * 6, "text": TEXTS}
        self.passages = Passages(pa.table(columns))
        self.embeddings = model.passage_encoder.encode_passages(list(self.passages))
        self.asked = []

    def search(self, queries, k):
        self.asked.append(len(queries))
        scores = queries @ self.embeddings.T
        rows = np.full((len(queries), k), PADDING_ROW)
        found = min(k, scores.shape[1])
        rows[:, :found] = np.argsort(-scores, axis=1, kind="stable")[:, :found]
        best = np.where(rows < 0, -np.inf, np.take_along_axis(scores, np.maximum(rows, 0), 1))
        return Retrieved(rows, best.astype(np.float32), self.embeddings[rows])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    parts = save_tiny_parts(tmp_path_factory.mktemp("asked"), TEXTS + QUESTIONS)
    return RagModel.from_parts(*parts, RagConfig(n_docs=3, temperature=8.0, max_answer_tokens=4))


def test_the_first_n_docs_of_k_passages_make_the_answers(model):
    base = InMemory(model)
    asked = ask(model, base, QUESTIONS, k=5, num_beams=1)
    vectors = model.question_encoder.encode(QUESTIONS)
    found = base.search(vectors, 5)
    assert (asked.rows == found.rows).all() and asked.rows.shape == (5, 5)
    scores = found.scores[:, :3] / 8.0
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert asked.probabilities == pytest.approx(shares, abs=1e-5)
    for number, question in enumerate(QUESTIONS):
        passages = [[base.passages[row] for row in found.rows[number, :3]]]
        log_probabilities = np.log(shares[number : number + 1])
        assert asked.answers[number : number + 1] == generate_answers(
            model, [question], passages, _tensor(log_probabilities), num_beams=1
        )


def test_no_fewer_than_n_docs_are_retrieved_and_padding_has_no_share(model):
    base = InMemory(model)
    base.embeddings = base.embeddings[:2]
    asked = ask(model, base, QUESTIONS[:2], k=1, num_beams=1)
    assert asked.rows.shape == (2, 3)
    assert (asked.rows[:, 2] == PADDING_ROW).all() and (asked.probabilities[:, 2] == 0).all()
    assert asked.probabilities.sum(axis=1) == pytest.approx([1, 1])


def test_many_questions_are_searched_for_in_parts(model, monkeypatch):
    whole = ask(model, InMemory(model), QUESTIONS, num_beams=1)
    monkeypatch.setattr(asking, "_SEARCHED_AT_ONCE", 2)
    base = InMemory(model)
    in_parts = ask(model, base, QUESTIONS, num_beams=1)
    assert base.asked == [2, 2, 1]
    assert (in_parts.rows == whole.rows).all()
    assert in_parts.probabilities == pytest.approx(whole.probabilities, abs=1e-6)


def test_by_heart_no_passage_is_read(model):
    answers = ask_closed_book(model, QUESTIONS, num_beams=1, batch_size=2)
    assert answers == [ask_closed_book(model, [question], num_beams=1)[0] for question in QUESTIONS]


def _tensor(values):
    import torch

    return torch.from_numpy(values)
