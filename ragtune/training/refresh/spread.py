"""A passage encoder on several devices at once."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ragtune.knowledge.passages import Passage
from ragtune.knowledge.retrieved import PassageEncoder
from ragtune.models.devices import replicas, shared_out
from ragtune.models.encoders import Encoder


class SpreadEncoder:
    """Equal encoders on several devices, which share the passages of each call; a `PassageEncoder`."""

    def __init__(self, encoders: Sequence[Encoder]):
        """Take them, each on its device by now."""
        self.encoders = encoders
        self.name = encoders[0].name
        self.fingerprint = encoders[0].fingerprint

    @property
    def dimension(self) -> int:
        return self.encoders[0].dimension

    @property
    def precision(self) -> str:
        return self.encoders[0].precision

    def encode_passages(self, passages: Sequence[Passage]) -> npt.NDArray[np.float32]:
        """As `Encoder.encode_passages`."""
        vectors = np.empty((len(passages), self.dimension), np.float32)

        def embed(encoder: Encoder, share: range) -> npt.NDArray[np.float32]:
            return encoder.encode_passages(passages[share.start :: share.step])

        for share, part in shared_out(self.encoders, embed, len(passages)):
            vectors[share.start :: share.step] = part
        return vectors


def spread(encoder: Encoder, devices: Sequence[str]) -> PassageEncoder:
    """An encoder on all of some devices; it is moved to the first, and copied to the others."""
    encoders = replicas(encoder, devices)
    return SpreadEncoder(encoders) if len(encoders) > 1 else encoder
