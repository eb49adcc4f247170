from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

from ragtune.errors import QuestionError, StorageError
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.retrieved import Retrieved
from ragtune.questions.answerability import split_by_answerability
from ragtune.questions.normalization import contains_answer, normalize_for_matching
from ragtune.questions.question import Question, read_kept_questions

VOCABULARY = 512


class WordHashes:
    """A real, if simple, encoder: a text's words, hashed."""

    def encode(self, texts):
        vectors = np.zeros((len(texts), VOCABULARY), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace(".", "").split():
                vectors[row, sum(word.encode()) % VOCABULARY] += 1
        return vectors


@dataclass
class ExactBase:
    """Exact search over passages; remembers the calls."""

    passages: Passages
    calls: list = field(default_factory=list)

    def search(self, queries, k):
        self.calls.append((len(queries), k))
        texts = WordHashes().encode([passage.text for passage in self.passages])
        scores = queries @ texts.T
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        padding = max(0, k - rows.shape[1])
        return Retrieved(
            np.pad(rows, ((0, 0), (0, padding)), constant_values=-1).astype(np.int64),
            np.pad(np.take_along_axis(scores, rows, 1), ((0, 0), (0, padding)), constant_values=-np.inf),
            np.zeros((len(queries), k, VOCABULARY), np.float32),
        )


def base(*texts):
    return ExactBase(Passages(pa.table({"id": [f"w{i}" for i in range(len(texts))], "text": texts}), "the_base"))


TEXTS = ["The capital of France is Paris.", "The capital of Peru is Lima.", "I know the capital of Mali."]
QUESTIONS = [
    Question("1", "what is the capital of France", ("Paris", "City of Light")),
    Question("2", "what is the capital of Mali", ("no",)),
    Question("3", "what is the capital of Peru", ("Cuzco", "lima")),
]


@pytest.fixture
def run(tmp_path):
    def run(questions, knowledge_base, encoder=None, **options):
        path = tmp_path / "questions.jsonl"
        path.write_text("".join(question.as_line() for question in questions))
        yes, no = tmp_path / "answerable.jsonl", tmp_path / "unanswerable.jsonl"
        counts = split_by_answerability(path, encoder or WordHashes(), knowledge_base, yes, no, **options)
        return counts, list(read_kept_questions(yes)), list(read_kept_questions(no))

    return run


def test_questions_are_parted_by_whether_an_answer_is_retrieved(run):
    counts, answerable, unanswerable = run(QUESTIONS, base(*TEXTS))
    assert [question.id for question in answerable] == ["1", "3"]
    assert [question.id for question in unanswerable] == ["2"]
    assert (counts["answerable"], counts["unanswerable"]) == (2, 1)
    assert counts["answerable_fraction"] == pytest.approx(2 / 3)


def test_an_answer_is_found_where_words_have_no_boundaries(run):
    question = Question("1", "他在哪里工作", ("北京",), source="there.jsonl:3")
    assert run([question], base("他在北京工作"))[1] == [question]


def test_questions_come_out_as_they_went_in(run):
    question = Question("1", "capital of France", ("Paris", "x y"), ("w1",), "T", "there.jsonl:3")
    assert run([question], base(*TEXTS))[1] == [question]


def test_what_ranks_below_k_does_not_count(run):
    texts = [*["what is it"] * 4, "Paris"]
    question = Question("1", "what is it", ("Paris",))
    counts, *_ = run([question], base(*texts), k=5)
    assert (counts["answerable_at_1"], counts["answerable_at_5"]) == (0, 1)
    assert "answerable_at_10" not in counts
    with pytest.raises(QuestionError):
        run([question], base(*texts), k=4)


def test_a_base_of_fewer_than_k_passages_is_padded(run):
    assert run(QUESTIONS, base(*TEXTS[:1]), k=10)[0]["answerable"] == 1


def test_search_is_batched(run):
    knowledge_base = base(*TEXTS)
    run(QUESTIONS * 3, knowledge_base, k=2, batch_size=4)
    assert knowledge_base.calls == [(4, 2), (4, 2), (1, 2)]


def test_a_passage_is_normalised_once(run, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "ragtune.questions.answerability.normalize_for_matching",
        lambda text: seen.append(text) or normalize_for_matching(text),
    )
    run(QUESTIONS * 5, base(*TEXTS), batch_size=2)
    assert sorted(seen) == sorted(TEXTS)


def test_nothing_answerable_is_an_error_that_names_base_count_and_way_out(run, tmp_path):
    with pytest.raises(QuestionError, match=r"none of 1 questions.*first 10 of the 3 passages of the_base; raise k"):
        run(QUESTIONS[1:2], base(*TEXTS))
    assert not (tmp_path / "answerable.jsonl").exists()
    assert not (tmp_path / "unanswerable.jsonl").exists()


@pytest.mark.parametrize(("options", "message"), [({"k": 0}, "k = 0"), ({"batch_size": 0}, "batch_size = 0")])
def test_a_parameter_without_sense_is_an_error(run, options, message):
    with pytest.raises(QuestionError, match=message):
        run(QUESTIONS, base(*TEXTS), **options)


def test_no_question_is_an_error(run):
    with pytest.raises(QuestionError, match=r"questions\.jsonl: holds no question"):
        run([], base(*TEXTS))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        split_by_answerability(tmp_path / "absent", WordHashes(), base(*TEXTS), tmp_path / "a", tmp_path / "b")


def test_real_gold_passages_hold_an_answer(run, shared_data):
    """Nearly every real question has an answer in a gold passage; matching in bulk equals matching one by one."""
    passages = Passages.open(shared_data / "nq/passages.parquet")
    questions = list(read_kept_questions(shared_data / "nq/dev.jsonl"))
    gold = [[passages.row_of(identifier) for identifier in question.gold_ids][:10] for question in questions]

    class PlacesInFile:
        def encode(self, texts):
            places = {question.question: place for place, question in enumerate(questions)}
            return np.array([[places[text]] for text in texts], np.float32)

    class GoldBase:
        def __init__(self):
            self.passages = passages

        def search(self, queries, k):
            rows = np.array([(gold[int(place)] + [-1] * k)[:k] for place in queries[:, 0]])
            return Retrieved(rows, np.zeros(rows.shape, np.float32), np.zeros((*rows.shape, 1), np.float32))

    counts, answerable, _ = run(questions, GoldBase(), encoder=PlacesInFile())
    assert [question.id for question in answerable] == [
        question.id
        for question, rows in zip(questions, gold, strict=True)
        if any(contains_answer(passages[row].text, question.answers) for row in rows)
    ]
    assert counts["answerable_fraction"] > 0.98
