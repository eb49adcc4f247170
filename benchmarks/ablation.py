"""Claim: each part learns, and what training them together, in turn or one after the other is worth over each alone.

    python benchmarks/ablation.py [--seeds 0 1 2] [--steps 300] [--report FILE] [--set NAME=VALUE]

On the bundled sample, from one start, for each seed and as many steps: `lsr` (the retriever alone), `ralt` (the
generator alone), `alternate`, `rag` (joint), and the closed-book generator. The sample's generator was warmed up on
passages alone and reads poorly; "lsr, reader" starts from what `ralt` made of it (`model_folder`), so that the
generator that teaches the retriever can read. "alternate, in full" trains for twice the steps, so that each part is
trained for as many as alone. All answer the same test questions, whose subjects neither training nor
validation ask about; the best step of each run is chosen on the validation questions by the method's own metric.

For each: EM, recall@1 and the norm of what each part moved, relative to its weights. Differences are paired, with 95 %
intervals over groups of questions, each question by its mean over the seeds. `--report` writes them as the page that
`ragtune ablation` makes of whole runs.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from measured import report

from ragtune.evaluation.ablation import CLOSED_BOOK, SCORES, UNTRAINED, Ablation, Arm
from ragtune.evaluation.ablation_section import write_ablation
from ragtune.evaluation.scoring import score_answers
from ragtune.evaluation.sides import closed_book_answers, evaluate_side
from ragtune.files import atomic_file
from ragtune.hub import load_prompt, load_tokenizer
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.models.checkpoint import load_model
from ragtune.models.encoders import Encoder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.models.weights import relative_distance
from ragtune.progress import say
from ragtune.questions.filtering import filter_questions
from ragtune.questions.groups import groups_of
from ragtune.questions.question import read_kept_questions
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.run import run

SAMPLE = Path(__file__).parents[1] / "ragtune" / "sample"
ENCODER, GENERATOR = (str(SAMPLE / "base" / part) for part in ("encoder", "generator"))
PARTS = {"question_encoder": ENCODER, "passage_encoder": ENCODER, "generator": GENERATOR}
MODEL = {"n_docs": 5, "temperature": 0.05, "max_input_tokens": 160}
TRAINING = {"learning_rate": 7e-4, "question_encoder_learning_rate": 3e-4, "adam_beta2": 0.98, "warmup_steps": 0.05}
ANSWER_TOKENS, KNOWN = 12, 20  # passages retrieved for the recall
TWICE_THE_STEPS = "alternate, in full"
_IN_TURN = {"method": "alternate", "method_options": {"alternate_every": 10, "examples": "supported"}}
# Name → method and its settings, and the run that it starts from.
ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "lsr": ({"method": "lsr"}, ""),
    "ralt": ({"method": "ralt", "method_options": {"examples": "supported"}}, ""),
    "lsr, reader": ({"method": "lsr"}, "ralt"),
    "alternate": (_IN_TURN, ""),
    TWICE_THE_STEPS: (_IN_TURN, ""),
    "rag": ({"method": "rag"}, ""),
}
GREEDY = {"num_beams": 1, "batch_size": 32}
VERSIONS = ("torch", "transformers", "feast", "pymilvus", "milvus-lite")


def prepared(work: Path, limit: int) -> dict[str, Path]:
    """Tokenised questions, test questions (`limit` of them, drawn by a hash) and the knowledge base of the sample."""
    made = {name: work / f"{name}.jsonl" for name in ("train", "validation", "test", "rejected")}
    made |= {"passages": work / "passages.parquet", "base": work / "base", "pairs": work / "pairs"}
    if made["pairs"].exists():
        return made
    filter_questions(
        SAMPLE / "train.simplified.jsonl.gz",
        *(made[name] for name in ("train", "validation", "test", "rejected")),
        validation_uri=SAMPLE / "validation.simplified.jsonl.gz",
        test_uri=SAMPLE / "test.simplified.jsonl.gz",
        max_test_questions=limit,
    )
    split_passages(SAMPLE / "corpus.jsonl", made["passages"])
    ingest_passages(made["passages"], made["base"], Encoder.from_pretrained(ENCODER, "passage"))
    tokenizers = load_tokenizer(ENCODER), load_tokenizer(GENERATOR)
    lengths = {"max_answer_tokens": ANSWER_TOKENS, "question_prompt": load_prompt(ENCODER, "question")}
    tokenize_pairs(made["train"], made["validation"], *tokenizers, made["pairs"], **lengths)
    return made


def train(arm: str, seed: int, made: Mapping[str, Path], work: Path, options: argparse.Namespace) -> Path:
    """The folder of the model that an arm's training leaves; `rag` leaves the closed-book baseline beside it."""
    settings, start = ARMS[arm]
    folder = work / f"{arm}-{seed}"
    if folder.exists():
        return folder
    start_parts = {"model_folder": str(work / f"{start}-{seed}")} if start else PARTS
    files = RunFiles(
        str(made["pairs"]),
        str(made["base"]),
        str(folder),
        str(work / "training"),
        closed_book_folder=str(work / f"{CLOSED_BOOK}-{seed}") if arm == "rag" else "",
        **start_parts,
    )
    common = MODEL | TRAINING | dict(pair.split("=", 1) for pair in options.parameters)
    args = RagTrainingArguments(
        **(common | settings),
        max_steps=options.steps * (2 if arm == TWICE_THE_STEPS else 1),
        per_device_train_batch_size=options.batch_size,
        eval_steps=max(1, options.steps // 2),
        max_eval_questions=options.max_eval_questions,
        retrieval="exact",
        report_to="none",
        seed=seed,
    )
    run(files, args)
    return folder


def scored(model: RagModel, made: Mapping[str, Path]) -> dict[str, Any]:
    """Scores per question, and the relative distance of each part from the start's."""
    side = evaluate_side(
        "x", model, made["base"], list(read_kept_questions(made["test"])), KNOWN, GREEDY, retrieval="exact"
    )
    start = RagModel.from_parts(*PARTS.values())
    moved = {part: relative_distance(getattr(start, part), getattr(model, part)) for part in PARTS}
    return {**{name: side.columns[f"{name}_x"].tolist() for name in SCORES}, "moved": moved}


def closed_book(folder: Path, made: Mapping[str, Path]) -> dict[str, Any]:
    """As `scored`, of the baseline, which retrieves nothing."""
    questions = list(read_kept_questions(made["test"]))
    answers = closed_book_answers(folder, questions, GREEDY)
    assert answers is not None
    return {"em": score_answers(questions, answers, "x")["em_x"].tolist(), "moved": {}}


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, written down so that a stopped benchmark goes on."""
    if not path.exists():
        with atomic_file(path) as stream:
            json.dump(make(), stream)
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: np.array(value) if name in SCORES else value for name, value in found.items()}


def one_seed(seed: int, made: Mapping[str, Path], work: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Scores and distances by arm."""
    config = RagConfig(max_answer_tokens=ANSWER_TOKENS, **MODEL)
    start = partial(RagModel.from_parts, *PARTS.values(), config)
    found = {UNTRAINED: kept(work / f"{UNTRAINED}.json", lambda: scored(start(), made))}
    for arm in options.arms:
        folder = train(arm, seed, made, work, options)
        load = partial(load_model, folder)
        found[arm] = kept(work / f"{arm}-{seed}.json", lambda load=load: scored(load(), made))
        say(f"seed {seed}, {arm}: " + ", ".join(f"{name} {np.mean(found[arm][name]):.3f}" for name in SCORES))
    baseline = work / f"{CLOSED_BOOK}-{seed}"
    if "rag" in options.arms:
        found[CLOSED_BOOK] = kept(work / f"{baseline.name}.json", lambda: closed_book(baseline, made))
    return found


def gathered(runs: Sequence[Mapping[str, Mapping[str, Any]]], groups: np.ndarray) -> Ablation:
    """The arms out of what `one_seed` gave for each seed."""

    def arm(name: str) -> Arm:
        own = [run[name] for run in runs]
        scores = {score: np.array([each[score] for each in own]) for score in SCORES if score in own[0]}
        return Arm(scores, {part: mean(each["moved"][part] for each in own) for part in own[0]["moved"]})

    arms = {name: arm(name) for name in runs[0]}
    return Ablation(arms.pop(UNTRAINED), arms, arms.pop(CLOSED_BOOK, None), groups)


def rows(ablation: Ablation) -> list[tuple[str, ...]]:
    """The table: a row per arm, then one per pair of arms, in points."""
    table = [("mean over seeds", *SCORES, *(f"{part} moved" for part in PARTS))]
    for name, arm in ablation.arms.items():
        scores = (f"{arm.mean(score):.3f}" if score in arm.scores else "" for score in SCORES)
        table.append((name, *scores, *(f"{arm.moved[part]:.3f}" if part in arm.moved else "" for part in PARTS)))
    for name, by_score in differences(ablation).items():
        told = ["{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * each for each in found)) for found in by_score.values()]
        table.append((name, *told, *[""] * (len(table[0]) - 1 - len(told))))
    return table


def differences(ablation: Ablation) -> dict[str, dict[str, list[float]]]:
    """Mean difference and its interval, by pair and score."""
    found: dict[str, dict[str, list[float]]] = {}
    for contrast in ablation.contrasts():
        interval = contrast.comparison.interval
        values = [round(value, 4) for value in (interval.difference, interval.low, interval.high)]
        found.setdefault(f"{contrast.ours} - {contrast.theirs}", {})[contrast.score] = values
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="those to train, in this order")
    parser.add_argument("--steps", type=int, default=300, help="of every training")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-eval-questions", type=int, default=500, help="of validation")
    parser.add_argument("--limit", type=int, default=0, help="test questions; 0 for all")
    parser.add_argument("--workspace", type=Path, help="keeps what is trained, for these very options")
    parser.add_argument("--report", type=Path, help="HTML file to write")
    parser.add_argument("--set", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as own:
        work = options.workspace or Path(own)
        work.mkdir(parents=True, exist_ok=True)
        made = prepared(work, options.limit)
        groups = groups_of(list(read_kept_questions(made["test"])))
        runs = {seed: one_seed(seed, made, work, options) for seed in options.seeds}
    ablation = gathered(list(runs.values()), groups)
    if options.report:
        write_ablation(options.report, ablation, "ablation on the bundled sample")
    by_seed = {
        seed: {
            arm: {name: round(float(np.mean(found[name])), 4) for name in SCORES if name in found}
            | {f"{part}_moved": round(value, 4) for part, value in found["moved"].items()}
            for arm, found in arms.items()
        }
        for seed, arms in runs.items()
    }
    shown = {name: value for name, value in vars(options).items() if name not in ("workspace", "report")}
    figures = {**shown, "test_questions": len(groups), "differences": differences(ablation), "runs": by_seed}
    report("ablation", rows(ablation), figures, VERSIONS)


if __name__ == "__main__":
    main()
