"""A small cut of benchmarks/real_questions.py: real Natural Questions, real passages, a real sentence encoder."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from ragtune.sample.copying import copying_generator
from ragtune.sample.word_tokenizer import build_word_tokenizer

ROOT = Path(__file__).parents[1]
TRAIN_QUESTIONS, TEST_QUESTIONS = 48, 24
EVERY = 400  # so many passages apart, for the others


@pytest.fixture(scope="module")
def cut(shared_data, tmp_path_factory) -> Path:
    """The first questions of train and dev, their gold passages, and some other passages."""
    folder = tmp_path_factory.mktemp("nq")
    nq = shared_data / "nq"
    with gzip.open(nq / "train.simplified.jsonl.gz", "rt", encoding="utf-8") as rows:
        train = [next(rows) for _ in range(TRAIN_QUESTIONS)]
    (folder / "train.jsonl").write_text("".join(train), encoding="utf-8")
    gold: set[str] = set()
    for name, count in (("train", TRAIN_QUESTIONS), ("dev", TEST_QUESTIONS)):
        with open(nq / f"{name}.jsonl", encoding="utf-8") as rows:
            chosen = [next(rows) for _ in range(count)]
        gold |= {identifier for row in chosen for identifier in json.loads(row)["gold_ids"]}
        if name == "dev":
            (folder / "dev.jsonl").write_text("".join(chosen), encoding="utf-8")
    passages = pq.read_table(nq / "passages.parquet")
    ids = passages["id"].to_pylist()
    kept = [row for row, identifier in enumerate(ids) if identifier in gold or row % EVERY == 0]
    pq.write_table(passages.take(kept), folder / "passages.parquet")
    texts = [*passages.take(kept)["text"].to_pylist(), *(json.loads(row)["question_text"] for row in train)]
    tokenizer = build_word_tokenizer(texts)
    copying_generator(tokenizer).save_pretrained(folder / "generator")
    tokenizer.save_pretrained(folder / "generator")
    return folder


@pytest.mark.slow
def test_the_pipeline_runs_on_real_questions_and_finds_their_passages(cut, minilm):
    parameters = {
        "questions": str(cut / "train.jsonl"),
        "test_questions": str(cut / "dev.jsonl"),
        "corpus": str(cut / "passages.parquet"),
        "max_passage_words": 120,
        "question_encoder": str(minilm),
        "passage_encoder": str(minilm),
        "generator": str(cut / "generator"),
        "workspace": str(cut / "workspace"),
        "temperature": 0.05,
        "max_answer_tokens": 12,
        "max_steps": 2,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "question_encoder_learning_rate": 2e-5,
        "eval_steps": 2,
        "closed_book_steps": 0,
        "num_beams": 1,
    }
    (cut / "params.yaml").write_text(yaml.safe_dump(parameters))
    command = [sys.executable, "pipeline.py", "run", "--params", str(cut / "params.yaml"), "--output", str(cut / "run")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads((cut / "run" / "metrics.json").read_text())
    assert figures["test_questions"] == figures["gold_questions"] == TEST_QUESTIONS
    assert figures["recall@5_before"] > 0.9
    assert figures["answer_recall@20_before"] > 0.9
    for name in ("recall@1", "recall@20", "answer_recall@1", "em"):
        assert 0 <= figures[f"{name}_after"] <= 1
