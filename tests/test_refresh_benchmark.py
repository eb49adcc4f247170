"""A small cut of benchmarks/refresh.py: real SQuAD questions, a real sentence encoder, real refreshes."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
PASSAGES, QUESTIONS = 20, 10


@pytest.fixture
def cut(shared_data, tmp_path) -> Path:
    """The first passages, and the questions whose gold passages are all among them."""
    passages = pq.read_table(shared_data / "squad" / "passages.parquet").slice(0, PASSAGES)
    ids = set(passages["id"].to_pylist())
    (tmp_path / "squad").mkdir()
    pq.write_table(passages, tmp_path / "squad" / "passages.parquet")
    with open(shared_data / "squad" / "dev.jsonl", encoding="utf-8") as rows:
        kept = [row for row in rows if set(json.loads(row)["gold_ids"]) <= ids]
    (tmp_path / "squad" / "dev.jsonl").write_text("".join(kept[:QUESTIONS]), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_both_methods_are_measured_from_the_same_start(cut, minilm, training_here, monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measured
    import refresh

    monkeypatch.setattr(measured, "RESULTS", cut / "results")
    sizes = {"seeds": 1, "steps": 2, "refresh-every": 1, "pairs": 1, "speed-steps": 2, "warm-up-steps": 2}
    options = [f"--{name}={value}" for name, value in sizes.items()]
    refresh.main([f"--data={cut}", f"--workspace={cut / 'work'}", "--batch-size=4", *options])
    figures = json.loads((cut / "results" / "refresh.json").read_text())
    assert figures == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["steps_per_second_alone"] > 0
    share = round(figures["steps_per_second_refreshing"] / figures["steps_per_second_alone"], 3)
    assert [figures["share_kept"], *figures["share_kept_range"]] == [share] * 3  # of one pair
    for metric in ("recall@1", "recall@5", "em", "f1"):
        for side in ("before", "rag", "rag-end2end"):
            assert all(0 <= value <= 1 for value in figures[f"{metric}_{side}"])
    assert figures["recall@5_before"][0] > 0.5
