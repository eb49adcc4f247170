"""A passage encoder on several devices at once."""

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ragtune.knowledge.passages import Passage
from ragtune.knowledge.retrieved import PassageEncoder
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
        """As `Encoder.encode_passages`; of n devices the i-th one takes the passages i, i + n, i + 2n …"""
        n = len(self.encoders)
        vectors = np.empty((len(passages), self.dimension), np.float32)
        with ThreadPoolExecutor(n, thread_name_prefix="embed") as pool:
            parts = pool.map(lambda i: self.encoders[i].encode_passages(passages[i::n]), range(n))
            for i, part in enumerate(parts):
                vectors[i::n] = part
        return vectors


def spread(encoder: Encoder, devices: Sequence[str]) -> PassageEncoder:
    """An encoder on all of some devices; it is moved to the first, and copied to the others."""
    encoder.to(devices[0])
    if len(devices) == 1:
        return encoder
    return SpreadEncoder([encoder, *(copy.deepcopy(encoder).to(device) for device in devices[1:])])
