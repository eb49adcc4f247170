"""An ablation out of the folders of finished runs, which must be of the same questions and from one start."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ragtune.errors import EvaluationError
from ragtune.evaluation.ablation import CLOSED_BOOK, SCORES, UNTRAINED, Ablation, Arm
from ragtune.evaluation.movement import PARTS

_OTHERWISE = 0.02  # of the questions, which rounding on another machine may answer otherwise

Rows = dict[str, dict[str, Any]]  # of predictions.jsonl, by question


def ablation_of(runs: Sequence[tuple[str, str | Path]]) -> Ablation:
    """The ablation that finished runs make together.

    Args:
        runs: name of the arm and folder of the run, or of what `evaluate` wrote; runs of one name are one arm. At
            least one.

    Raises:
        EvaluationError: a folder holds no evaluation, or one without the scores of today; the questions are not the
            same, or the models before; an arm is called `UNTRAINED` or `CLOSED_BOOK`.
    """
    evaluated = [(name, Path(folder), _read(Path(folder))) for name, folder in runs]
    for name, folder, _ in evaluated:
        if name in (UNTRAINED, CLOSED_BOOK):
            raise EvaluationError(f"{name}={folder}: this name is the ablation's own; give the arm another one")
    _, first, (expected, _) = evaluated[0]
    for _, folder, (rows, _) in evaluated[1:]:
        _check_questions(first, expected, folder, rows)
        _check_start(first, expected, folder, rows)
    names = dict.fromkeys(name for name, *_ in evaluated)
    tables = {name: [read for own, _, read in evaluated if own == name] for name in names}
    everything = [rows for _, _, (rows, _) in evaluated]
    baselines = [rows for rows in everything if all("em_closed_book" in row for row in rows.values())]
    return Ablation(
        untrained=Arm(_scores(everything, expected, "before"), dict.fromkeys(PARTS, 0.0)),
        trained={
            name: Arm(_scores([rows for rows, _ in own], expected, "after"), _moved([metrics for _, metrics in own]))
            for name, own in tables.items()
        },
        closed_book=Arm({"em": _column(baselines, expected, "em_closed_book")}) if baselines else None,
        groups=np.array([row["group"] for row in expected.values()]),
    )


def _read(folder: Path) -> tuple[Rows, dict[str, float]]:
    try:
        with open(folder / "predictions.jsonl", encoding="utf-8") as lines:
            rows = {row["id"]: row for row in map(json.loads, lines)}
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{folder}: predictions.jsonl and metrics.json of a finished evaluation cannot be read there ({error}); "
            "give the folder of a run, such as runs/latest"
        ) from error
    needed = {"group", *(f"{score}_{side}" for score in SCORES for side in ("before", "after"))}
    for row in rows.values():
        if missing := sorted(needed - row.keys()):
            raise EvaluationError(
                f"{folder / 'predictions.jsonl'}: has no {', '.join(missing)}; evaluate it again with this version"
            )
    if not any(f"moved_{part}" in metrics for part in PARTS):
        raise EvaluationError(
            f"{folder / 'metrics.json'}: does not say how far each part moved; evaluate it again with this version"
        )
    return rows, metrics


def _check_questions(first: Path, expected: Rows, folder: Path, rows: Rows) -> None:
    own, other = ({(name, row["question"]) for name, row in each.items()} for each in (rows, expected))
    if own != other:
        raise EvaluationError(
            f"{folder}: was evaluated on other questions than {first}: {len(own & other):,} of {len(own | other):,} "
            "are in both; run all arms on the same questions, split the same way"
        )


def _check_start(first: Path, expected: Rows, folder: Path, rows: Rows) -> None:
    for score in SCORES:
        name = f"{score}_before"
        otherwise = sum(rows[question][name] != row[name] for question, row in expected.items())
        if otherwise > _OTHERWISE * len(expected):
            raise EvaluationError(
                f"{folder}: its model before training differs from that of {first} ({SCORES[score]} of "
                f"{otherwise:,} of {len(expected):,} questions); start all arms from the same parts, with the same "
                "n_docs, temperature and number of beams"
            )


def _scores(tables: Sequence[Rows], order: Rows, side: str) -> dict[str, np.ndarray]:
    found = {score: _column(tables, order, f"{score}_{side}") for score in SCORES}
    return {score: values for score, values in found.items() if not np.isnan(values).all()}


def _column(tables: Sequence[Rows], order: Rows, name: str) -> np.ndarray:
    """One row per run; null is NaN."""
    return np.array([[math.nan if rows[each][name] is None else rows[each][name] for each in order] for rows in tables])


def _moved(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {part: f"moved_{part}" for part in PARTS}
    return {
        part: float(np.mean([own[name] for own in metrics]))
        for part, name in names.items()
        if all(name in own for own in metrics)
    }
