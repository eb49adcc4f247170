"""The outputs of an evaluation, as the registration needs them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import RegistryError
from ragtune.files import content_hash

PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True)
class Evaluated:
    """The output folder of `evaluate`, read.

    Attributes:
        folder: where it was read from.
        metrics: of metrics.json.
        predictions: the lines of predictions.jsonl.
        champion: what facts.json says of the champion; empty where there was none.
        metric: the score per question that decides on promotion.
        identity: a hash of what a decision rests on.
    """

    folder: Path
    metrics: dict[str, float]
    predictions: list[dict[str, Any]]
    champion: dict[str, str]
    metric: str
    identity: str

    @classmethod
    def read(cls, folder: Path) -> "Evaluated":
        """Read it; raises RegistryError where it is not whole."""
        try:
            metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
            facts = json.loads((folder / "facts.json").read_text("utf-8"))
            champion, metric = facts.get("champion", {}), facts.get("deciding_metric", "em")
            with open(folder / PREDICTIONS, encoding="utf-8") as lines:
                predictions = [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            raise RegistryError(
                f"{folder}: no whole evaluation ({error}); is it the output folder of evaluate?"
            ) from error
        own = [] if metric == "em" else [metric]  # so that evaluations of before keep theirs
        identity = hash_of(content_hash(folder / PREDICTIONS), json.dumps(champion, sort_keys=True), *own)
        return cls(folder, metrics, predictions, champion, metric, identity)


def hash_of(*parts: str) -> str:
    """SHA-256 of some texts, as 64 hex digits."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
