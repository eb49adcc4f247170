"""Texts and vectors as pymilvus takes and gives them, without a Python object per character or number."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt


class WholeText(str):
    """A text that is one item to whoever loops over it: pymilvus checks type and length of every character."""

    def __iter__(self) -> Iterator[str]:
        yield self


def stored_vectors(found: Any, field_name: str, dimension: int) -> npt.NDArray[np.float32]:
    """The vectors of all hits of all queries, one after the other, (hits, d).

    pymilvus would make a Python list per hit. All hits share one protobuf message, whose packed floats are read in one
    go.
    """
    for hits in found:
        for field in hits.lazy_field_data:
            if field.field_name == field_name and len(field.vectors.float_vector.data):
                size = len(field.vectors.float_vector.data) * 4
                packed = field.vectors.float_vector.SerializeToString()
                return np.frombuffer(packed[-size:], dtype="<f4").reshape(-1, dimension)
    return np.zeros((0, dimension), np.float32)
