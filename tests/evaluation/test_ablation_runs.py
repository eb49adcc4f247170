import json

import pytest

from ragtune.errors import EvaluationError
from ragtune.evaluation.ablation_runs import ablation_of


@pytest.fixture
def run(tmp_path):
    """Write what a run of ten questions leaves: so many right before and after."""

    def run(name, after, before=2, *, questions=range(10), closed_book=None, **moved):
        folder = tmp_path / name
        folder.mkdir()
        rows = [
            {
                "id": f"q{number}",
                "question": f"question {number}",
                "group": number // 2,
                "em_before": float(number < before),
                "em_after": float(number < after),
                "recall@1_before": None if number == 9 else 0.0,
                "recall@1_after": None if number == 9 else 1.0,
                **({} if closed_book is None else {"em_closed_book": float(number < closed_book)}),
            }
            for number in questions
        ]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        parts = {"question_encoder": 0.0, "passage_encoder": 0.0, "generator": 0.0} | moved
        metrics = {f"moved_{part}": value for part, value in parts.items() if value is not None}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    return run


def test_runs_of_one_name_are_one_arm(run):
    first = run("0", 4, closed_book=1, generator=0.1)
    second = run("1", 6, closed_book=3, generator=0.3, questions=reversed(range(10)))
    found = ablation_of([("ralt", first), ("lsr", run("2", 3, question_encoder=0.2)), ("ralt", second)])
    assert list(found.arms) == ["untrained", "ralt", "lsr", "closed-book"]
    assert found.trained["ralt"].by_run("em") == [0.4, 0.6]  # each question in its place, in whatever order
    assert found.trained["ralt"].scores["em"][1].tolist() == [1.0] * 6 + [0.0] * 4
    assert found.trained["ralt"].moved["generator"] == pytest.approx(0.2)
    assert found.untrained.mean("em") == pytest.approx(0.2)
    assert found.closed_book.mean("em") == pytest.approx(0.2)
    assert found.trained["lsr"].mean("recall@1") == 1.0  # of those that can be judged
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_part_of_another_architecture_has_no_distance(run):
    found = ablation_of([("ralt", run("0", 4, generator=None))])
    assert "generator" not in found.trained["ralt"].moved and found.closed_book is None


def test_other_questions_are_refused(run):
    with pytest.raises(EvaluationError, match=r"1: was evaluated on other questions than .*0: 8 of 10 are in both"):
        ablation_of([("a", run("0", 4)), ("b", run("1", 4, questions=range(8)))])


def test_another_start_is_refused(run):
    with pytest.raises(EvaluationError, match=r"1: its model before .* \(exact match of 3 of 10 questions\)"):
        ablation_of([("a", run("0", 4)), ("b", run("1", 4, before=5))])


def test_what_is_no_run_is_named(run, tmp_path):
    with pytest.raises(EvaluationError, match=r"nowhere: predictions.jsonl and metrics.json .* cannot be read there"):
        ablation_of([("a", tmp_path / "nowhere")])
    with pytest.raises(EvaluationError, match=r"untrained=.*: this name is the ablation's own"):
        ablation_of([("untrained", run("0", 4))])
    old = run("1", 4)
    (old / "metrics.json").write_text("{}")
    with pytest.raises(EvaluationError, match="does not say how far each part moved; evaluate it again"):
        ablation_of([("a", old)])
    (old / "predictions.jsonl").write_text('{"id": "1", "em_before": 0, "em_after": 0, "group": 0}\n')
    with pytest.raises(EvaluationError, match=r"has no recall@1_after, recall@1_before; evaluate it again"):
        ablation_of([("a", old)])
