"""The distance that a training has moved each part of a model: a part that stood still has learnt nothing."""

import math

from ragtune.errors import ModelError
from ragtune.models.rag import RagModel
from ragtune.models.weights import relative_distance

PARTS = ("question_encoder", "passage_encoder", "generator")


def moved_parts(base: RagModel, model: RagModel) -> dict[str, float]:
    """‖W' − W‖ / ‖W‖ of each part, as `moved_<part>`; NaN where the two are of different architectures.

    Args:
        base: the model before, as loaded: its W in float32.
        model: the model after.
    """
    return {f"moved_{part}": _distance(base, model, part) for part in PARTS}


def _distance(base: RagModel, model: RagModel, part: str) -> float:
    try:
        return relative_distance(getattr(base, part), getattr(model, part))
    except ModelError:  # such as a generator with adapters beside its weights
        return math.nan
