"""The model to beat."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Champion:
    """Today's champion, as a registry knows it.

    Attributes:
        version: of the registered model.
        folder: its model folder; None where it cannot be had.
        problem: why not, in words.
    """

    version: str
    folder: Path | None
    problem: str = ""
