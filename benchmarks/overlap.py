"""Claim: an overlapped search takes at most 5 % of a step's time, and the model learns as well with it as without.

    python benchmarks/overlap.py [--steps 100]

The bundled sample, its base model and the parameters of params/demo.yaml, in turn with overlap_search and without:
loss, exact match and recall on the validation questions, and the share of the time that training waits for passages.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml
from measured import PAIRS, in_turn, medians, ratio, report
from stores import VERSIONS
from transformers import AutoTokenizer

import ragtune.sample
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.models.encoders import Encoder
from ragtune.questions.nq import read_questions
from ragtune.questions.question import Question
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.training.launch import finetune

SAMPLE = Path(ragtune.sample.__file__).parent
DEMO = Path(__file__).parents[1] / "params" / "demo.yaml"
TAKEN = (
    *("temperature", "max_input_tokens", "batch_size", "learning_rate", "question_encoder_learning_rate"),
    *("adam_beta2", "warmup_steps"),
)
SHOWN = ("search_fraction", "samples_per_second", "train_loss", "best_loss", "best_em")


def prepare(folder: Path, demo: dict) -> None:
    encoder, generator = SAMPLE / "base" / "encoder", SAMPLE / "base" / "generator"
    split_passages(SAMPLE / "corpus.jsonl", folder / "passages.parquet")
    ingest_passages(folder / "passages.parquet", folder / "base", Encoder.from_pretrained(encoder, "passage"))
    for split in ("train", "validation"):
        rows = read_questions(SAMPLE / f"{split}.simplified.jsonl.gz")
        lines = [row.as_line() for row in rows if isinstance(row, Question)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    tokenizers = [AutoTokenizer.from_pretrained(part) for part in (encoder, generator)]
    files = (folder / "train.jsonl", folder / "validation.jsonl")
    tokenize_pairs(*files, *tokenizers, folder / "pairs", max_answer_tokens=demo["max_answer_tokens"])


def train(folder: Path, overlap: bool, demo: dict, steps: int, questions: int) -> dict[str, float]:
    encoder, generator = SAMPLE / "base" / "encoder", SAMPLE / "base" / "generator"
    shutil.rmtree(folder / f"model-{overlap}", ignore_errors=True)
    return finetune(
        folder / "pairs",
        folder / "base",
        folder / f"model-{overlap}",
        folder / "work",
        question_encoder=encoder,
        passage_encoder=encoder,
        generator=generator,
        max_steps=steps,
        seed=42,
        eval_steps=steps,
        max_eval_questions=questions,
        report_to="none",
        overlap_search=overlap,
        **{name: demo[name] for name in TAKEN},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--questions", type=int, default=0, help="to validate on; 0 for all")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="trainings with it, and as many without, in turn")
    options = parser.parse_args(arguments)
    demo = yaml.safe_load(DEMO.read_text())
    with tempfile.TemporaryDirectory() as name_of_folder:
        prepare(Path(name_of_folder), demo)
        sides = {
            name: partial(train, Path(name_of_folder), overlap, demo, options.steps, options.questions)
            for name, overlap in (("overlapped", True), ("not_overlapped", False))
        }
        runs = in_turn(sides, options.pairs)
    with_overlap, without = (medians(side) for side in runs.values())
    speeds = [[run["samples_per_second"] for run in side] for side in runs.values()]
    faster = ratio(*speeds)
    rows = [("", "overlapped", "not")]
    rows += [(name.replace("_", " "), f"{with_overlap[name]:.4g}", f"{without[name]:.4g}") for name in SHOWN]
    rows += [("times faster", str(faster), "")]
    figures = {
        f"{prefix}_{name}": round(result[name], 4)
        for prefix, result in (("overlapped", with_overlap), ("not_overlapped", without))
        for name in SHOWN
    } | faster.figures("times_faster")
    report("overlap", rows, vars(options) | figures, (*VERSIONS, "torch", "transformers"))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
