"""What a federation leaves: the averaged model, and in its folder the log and the history of its rounds."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragtune.federation.rounds import Entry
from ragtune.federation.weights import Weights, write_weights
from ragtune.models.checkpoint import load_model, save_model
from ragtune.training.run import TRAINING_LOG

FEDERATION = "federation.json"


def write_model(
    target: Path, start: str | Path, weights: Weights, lineage: Mapping[str, Any], merge: bool, trust: bool = False
) -> None:
    """Write the averaged model: the base model's folder with other weights, and fingerprints to match.

    Args:
        target: the model's folder.
        start: the base model's.
        weights: averaged.
        lineage: of the model, for `save_model`.
        merge: add a LoRA adapter to the weights.
        trust: run code that comes with the model.

    Raises:
        ModelError, StorageError: with the way out.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        shutil.copytree(start, Path(folder, "model"))
        write_weights(Path(folder, "model"), weights)
        model = load_model(Path(folder, "model"), trust_remote_code=trust)
        if merge:
            model.generator.merge_adapter()
        save_model(model, target, lineage)


def write_history(folder: Path, history: Sequence[Entry], best: int, steps: int) -> None:
    """Write the rounds into a model's folder, by site for the report, and as the curve of a training.

    Args:
        folder: the model's.
        history: of all rounds.
        best: the round that the model is of.
        steps: of a site in a round.
    """
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
