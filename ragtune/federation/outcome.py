"""The outcome of a federation: the averaged model, and in its folder the log and the history of its rounds."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragtune.federation.rounds import Entry, Plan, weights_of_round
from ragtune.federation.weights import write_weights
from ragtune.models.checkpoint import load_model, save_model
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.run import TRAINING_LOG

FEDERATION = "federation.json"


def write_outcome(
    folder: Path,
    start: str | Path,
    plan: Plan,
    best: int,
    history: Sequence[Entry],
    lineage: Mapping[str, Any],
    args: RagTrainingArguments,
    lengths: Mapping[str, int] | None = None,
    trust: bool = False,
) -> None:
    """Write the averaged model, and the rounds into its folder: by site for the report, and as a training's curve.

    Args:
        folder: for the model.
        start: the base model's folder, of which all is taken but the weights.
        plan: of the federation.
        best: the round whose weights the model gets.
        history: of all rounds.
        lineage: of the model, for `save_model`.
        args: of the run, whose settings of the model it gets; `lora_merge` adds a LoRA adapter to the weights.
        lengths: as of `RagTrainingArguments.model_config`, where they are others than the base model's.
        trust: run code that comes with the model.

    Raises:
        ModelError, StorageError: with the way out.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        averaged = Path(temporary, "model")
        shutil.copytree(start, averaged)
        write_weights(averaged, weights_of_round(plan.folder, best))
        model = load_model(averaged, trust_remote_code=trust)
        model.config = args.model_config(model.config, **(lengths or {}))
        if args.lora_rank and args.lora_merge:
            model.generator.merge_adapter()
        save_model(model, folder, lineage)
    steps = args.max_steps // plan.options.rounds
    names = {"train_loss": "loss", "loss": "validation_loss"}
    curve = [
        {"step": entry["round"] * steps, **{names.get(name, name): value for name, value in entry["metrics"].items()}}
        for entry in history
    ]
    for name, content in ((FEDERATION, {"round": best, "rounds": list(history)}), (TRAINING_LOG, curve)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def results(history: Sequence[Entry], best: int, metric: str, keeps_best: bool) -> dict[str, float]:
    """A federation in a few figures, named as a training's: see `ragtune.training.telemetry.training_log.results`."""
    trained = [metrics for entry in history for metrics in entry["sites"].values() if "steps" in metrics]
    last, kept = history[-1], next(entry for entry in history if entry["round"] == best)
    figures = {
        "rounds": last["round"],
        "best_round": best,
        "steps": sum(metrics["steps"] for metrics in trained),
        "seconds": sum(metrics["seconds"] for metrics in trained),
        "failed_sites": sum(len(entry["failed"]) for entry in history),
        "train_loss": last["metrics"]["train_loss"],
    }
    prefix = "best" if keeps_best else "last"
    names = [name for name in dict.fromkeys(("em", "loss", metric)) if name in kept["metrics"]]
    return figures | {f"{prefix}_{name}": kept["metrics"][name] for name in names}
