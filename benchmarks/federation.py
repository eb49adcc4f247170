"""Claim: three sites that share weights alone get a model as good as if their questions lay in one place.

    python benchmarks/federation.py [--arms federated together alone parallel longer] [--rounds 4] [--steps 240]
        [--seeds 0 1 2] [--strategy FedAvg] [--strategy-options '{}']

On the bundled sample, from one start: the training questions are dealt out to three sites, and `rag` trains

- `federated`: at all sites by rounds, averaged by a strategy (`method: federated`, Flower's simulation),
- `alone`: at each site on its own questions,
- `together`: on all questions in one place, for as many steps as one site has, a fraction of the computing;
- `parallel`, with as much of it: the same in batches of all sites' size, as their machines would train together with
  data parallelism; and `longer`: for as many steps as all sites have one after the other.

Each keeps its best step or round by EM on the validation questions that it can see: a site its own, the others all.
All answer the validation questions of all sites, and the test questions, whose subjects no training asks about. A seed
deals out the questions and shuffles them; with the same --work what was trained for it is not trained again.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ablation import ANSWER_TOKENS, ENCODER, GENERATOR, MODEL, PARTS, TRAINING, prepared
from measured import over_seeds, report

from ragtune.federation.sites import divide
from ragtune.hub import load_prompt, load_tokenizer
from ragtune.progress import say
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.pairs import open_pairs
from ragtune.training.run import evaluate_model, run

EXACT = {"retrieval": "exact", "report_to": "none", "max_eval_questions": 0}
METRICS = ("em", "recall@1", "loss")
ARMS = ("federated", "together", "alone", "parallel", "longer")
VERSIONS = ("torch", "transformers", "flwr", "ray")


def train(
    pairs: str | Path, base: Path, folder: Path, steps: int, seed: int, options: argparse.Namespace, **settings: Any
) -> Path:
    """The folder of the model that a training leaves; one that is there already is not trained again."""
    if not folder.exists():
        files = RunFiles(str(pairs), str(base), str(folder), str(folder.parent / "training"), **PARTS)
        common = MODEL | TRAINING | EXACT | {"per_device_train_batch_size": options.batch_size, "seed": seed}
        evaluated = {"eval_steps": max(1, steps // options.rounds), "logging_steps": 50}
        run(files, RagTrainingArguments(**{**common, **evaluated, "max_steps": steps, **settings}))
    return folder


def measure(model: Path, splits: dict[str, Path], base: Path) -> dict[str, float]:
    """EM, recall@1 and loss by split."""
    figures: dict[str, float] = {}
    for name, pairs in splits.items():
        files = RunFiles(str(pairs), str(base), str(model), str(model), model_folder=str(model))
        found = evaluate_model(files, RagTrainingArguments(**EXACT))
        figures |= {
            f"{name}_questions": found["questions"],
            **{f"{name}_{metric}": found[metric] for metric in METRICS},
        }
    return figures


def splits_of(work: Path, options: argparse.Namespace) -> tuple[dict[str, Path], Path]:
    """The questions of all sites by what they are for, tokenised, and the knowledge base."""
    work.mkdir(parents=True, exist_ok=True)
    made = prepared(work, options.test_questions)
    held_out = work / "held_out"
    if not held_out.exists():
        lengths = {"max_answer_tokens": ANSWER_TOKENS, "question_prompt": load_prompt(ENCODER, "question")}
        tokenize_pairs(
            made["train"], made["test"], load_tokenizer(ENCODER), load_tokenizer(GENERATOR), held_out, **lengths
        )
    return {"dev": made["pairs"], "test": held_out}, made["base"]


def measure_arms(
    splits: dict[str, Path], base: Path, work: Path, seed: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """The figures of each arm's models, trained in folder `work`."""
    pairs_of_all = splits["dev"]
    files = RunFiles(str(pairs_of_all), str(base), str(work / "none"), str(work), **PARTS)
    sites = divide(open_pairs(pairs_of_all), files, work / "sites", options.sites, seed)
    strategy = {"strategy": options.strategy, "strategy_options": options.strategy_options}
    federation = {"sites": options.sites, "rounds": options.rounds, **strategy}
    everyones = options.steps * options.sites
    batches = options.batch_size * options.sites
    plans: dict[str, list[tuple[str, Any, int, dict[str, Any]]]] = {
        "federated": [
            ("federated", pairs_of_all, options.steps, {"method": "federated", "method_options": federation})
        ],
        "together": [(f"together, {options.steps} steps", pairs_of_all, options.steps, {})],
        "alone": [(f"{site.name} alone", site.dataset, options.steps, {}) for site in sites],
        "parallel": [
            (f"together, {batches} at once", pairs_of_all, options.steps, {"per_device_train_batch_size": batches})
        ],
        "longer": [(f"together, {everyones} steps", pairs_of_all, everyones, {})],
    }
    figures: dict[str, dict[str, float]] = {}
    for name, pairs, steps, settings in chain.from_iterable(plans[arm] for arm in options.arms):
        folder = work / name.replace(", ", "-").replace(" ", "-")
        figures[name] = measure(train(pairs, base, folder, steps, seed, options, **settings), splits, base)
        say(f"seed {seed}, {name}: {figures[name]}")
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, and write results/federation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="longer: together, all sites' steps")
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=240, help="of each site, over all rounds")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--test-questions", type=int, default=0, help="0 means all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--strategy", default="FedAvg")
    parser.add_argument("--strategy-options", type=json.loads, default={}, help="JSON")
    parser.add_argument("--work", type=Path, help="folder that keeps what is trained; empty means a temporary one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as own:
        work = options.work or Path(own)
        splits, base = splits_of(work, options)
        runs = {seed: measure_arms(splits, base, work / f"seed-{seed}", seed, options) for seed in options.seeds}
    shown = [f"{split}_{metric}" for split in splits for metric in METRICS]
    rows = [["", *shown]]
    for name in runs[options.seeds[0]]:
        rows.append([name, *(over_seeds([run[name][key] for run in runs.values()]) for key in shown)])
    settings = {name: value for name, value in vars(options).items() if name != "work"}
    report("federation", rows, settings | {"runs": runs}, VERSIONS)


if __name__ == "__main__":
    main()
