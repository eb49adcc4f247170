"""A passage encoder on many machines: actors of a Ray cluster embed, and their vectors stream back."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ragtune import errors
from ragtune.errors import ClusterError, KnowledgeBaseError
from ragtune.knowledge.passages import Passage, Passages
from ragtune.models.ray_embedding import Embedding, EmbeddingStream
from ragtune.progress import say
from ragtune.ray_cluster import connected, given_address, is_installed, own_cluster
from ragtune.settings.pipeline import EMBED_ON

if TYPE_CHECKING:
    from ragtune.models.encoders import Encoder

_, RAY = EMBED_ON
_OBJECT_STORE_BYTES = 2**30  # of a Ray of one's own: blocks of vectors on their way
_MOST_CPUS_PER_ACTOR = 4
_SAY_AFTER_SECONDS = 60.0  # without a vector
_OWN_ERROR = re.compile(r"^ragtune\.errors\.(\w+): (.+)", re.M)
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Actors:
    """The actors that a cluster has room for.

    Attributes:
        count: how many.
        cpus, gpus: of each.
    """

    count: int
    cpus: int
    gpus: int

    @classmethod
    def that_fit(cls, nodes: Sequence[dict[str, float]]) -> "Actors":
        """One per GPU; where there are none, one per four processors of a node, or fewer where no node has four.

        Args:
            nodes: the resources of each node, by Ray's names.

        Raises:
            ClusterError: there are neither.
        """
        gpus, cpus = ([int(node.get(name, 0)) for node in nodes] for name in ("GPU", "CPU"))
        if sum(gpus):
            return cls(sum(gpus), 0, 1)
        with_cpus = [count for count in cpus if count]
        if not with_cpus:
            raise ClusterError("Ray: the cluster has neither GPUs nor CPUs for its work; add a node, or embed_on=here")
        each = min(_MOST_CPUS_PER_ACTOR, *with_cpus)
        return cls(sum(count // each for count in with_cpus), each, 0)


class RayEncoder:
    """As the encoder that it stands for, but passages of a file are embedded by the actors of a Ray cluster.

    Each vector is that of `Encoder.encode_passages` on the actor's device, up to the rounding that depends on which
    texts share a batch, there as here. The precision is one for all: that of the cluster's GPUs, if there are any.

    Attributes:
        name, dimension, precision: as of any `PassageEncoder`.
        fingerprint: of the weights here; actors with others refuse to embed.
    """

    def __init__(self, encoder: "Encoder"):
        """Look at the cluster that this process belongs to.

        Raises:
            ClusterError: it has no room for an actor.
        """
        import ray

        self._encoder = encoder
        self.name, self.dimension, self.fingerprint = encoder.name, encoder.dimension, encoder.fingerprint
        self.actors = Actors.that_fit([node["Resources"] for node in ray.nodes() if node["Alive"]])
        self.precision = encoder.precision
        if self.actors.gpus:
            with _ray_errors():
                self.precision = ray.get(ray.remote(num_cpus=0, num_gpus=1)(_precision_of_gpu).remote())

    def encode_passages(self, passages: Sequence[Passage]) -> Floats:
        """Vectors that are computed here."""
        return self._encoder.encode_passages(passages, precision=self.precision)

    def encode_rows(self, path: Path, passages: Passages, rows: Rows) -> Iterator[tuple[Rows, Floats]]:
        """As `RemoteEncoder.encode_rows`; a block of vectors at a time is in this process.

        Raises:
            ClusterError: Ray fails.
            KnowledgeBaseError, ModelError: an actor cannot read the passages or the encoder, or they are others there.
        """
        import ray

        say(f"embedding: {self.actors.count} Ray actors of {self.actors.gpus} GPUs and {self.actors.cpus} CPUs each")
        task = {
            "encoder": self.name,
            "fingerprint": self.fingerprint,
            "precision": self.precision,
            "path": str(path.absolute()),
        }
        blocks = Embedding.blocks(rows, passages.content_hashes, on_gpu=bool(self.actors.gpus))
        with _ray_errors():
            # In the cluster, as a Ray client cannot drive Ray Data; it ends with this process.
            stream: Any = ray.remote(num_cpus=0)(EmbeddingStream).remote(task, blocks, self.actors)
            while (found := _patiently(stream.next_block.remote())) is not None:
                yield found
            ray.kill(stream)


@contextmanager
def encoder_on(place: str, encoder: "Encoder") -> Iterator["Encoder | RayEncoder"]:
    """The encoder on this machine's first device (`place` is "here"), or on a Ray cluster ("ray").

    The cluster is the one at RAY_ADDRESS, or, without one, one of this machine's own processors and GPUs.

    Raises:
        KnowledgeBaseError: Ray is not installed.
        ClusterError: it cannot be started or reached.
    """
    from ragtune.models.devices import all_devices, best_device

    if place != RAY:
        yield encoder.to(best_device())
        return
    if not is_installed():
        raise KnowledgeBaseError("embed_on=ray: Ray is not installed; pip install 'ragtune[ray]', or set embed_on=here")
    with ExitStack() as stack:
        cluster = {"address": given_address()}
        if not cluster["address"]:
            from joblib import cpu_count

            gpus = len([device for device in all_devices() if device != "cpu"])
            cluster = stack.enter_context(own_cluster(cpu_count(), gpus, _OBJECT_STORE_BYTES))
        stack.enter_context(connected(**cluster))
        yield RayEncoder(encoder)


def _patiently(result: Any) -> tuple[Rows, Floats] | None:
    """The block once it is there; a line in the log for every minute that it is not."""
    import ray

    waited = 0.0
    while True:
        try:
            return ray.get(result, timeout=_SAY_AFTER_SECONDS)
        except ray.exceptions.GetTimeoutError:
            waited += _SAY_AFTER_SECONDS
            say(f"embedding: Ray has given no vectors for {waited:.0f} s; `ray status` tells what its actors wait for")


def _precision_of_gpu() -> str:
    import torch

    from ragtune.models.devices import computes_in_bfloat16

    return "bfloat16" if computes_in_bfloat16(torch.device("cuda")) else "float32"


@contextmanager
def _ray_errors() -> Iterator[None]:
    """Ray's errors as ours: the one that an actor raised, which Ray Data quotes, or what Ray says of its own."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        if quoted := _OWN_ERROR.findall(str(error)):
            kind, message = quoted[-1]  # after those that led to it
            raise getattr(errors, kind)(message) from error
        reason = str(error).strip().splitlines()[-1]
        raise ClusterError(
            f"Ray: failed while it embedded ({type(error).__name__}: {reason}); run again: what was embedded is kept"
        ) from error
