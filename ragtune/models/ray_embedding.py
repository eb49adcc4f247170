"""The inside of a Ray cluster while passages are embedded: Ray Data's actors, and the one that drives them.

Nothing here imports torch before an actor is at work.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.knowledge.hashes import Hashes
from ragtune.knowledge.passages import Passages

if TYPE_CHECKING:
    from ragtune.models.ray_encoder import Actors

_ROWS_PER_BLOCK = {True: 4096, False: 256}  # on a GPU, on CPUs: what a killed actor loses
_RESTARTS = 3  # of an actor whose node is gone, and of a block that it had
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Block = dict[str, Any]


class Embedding:
    """An actor of the pool: the encoder, and the file of passages, mapped into memory."""

    def __init__(self, encoder: str, fingerprint: str, precision: str, path: str):
        """Remember; both are opened by the first block, whose errors reach the one who asked."""
        self._task = (encoder, fingerprint, path)
        self._precision = precision
        self._opened: tuple[Any, Passages] | None = None

    @staticmethod
    def blocks(rows: Rows, hashes: Hashes, on_gpu: bool) -> list[Block]:
        """Rows in blocks, with the hashes of what shall stand there."""
        size = _ROWS_PER_BLOCK[on_gpu]
        parts = [np.sort(rows[start : start + size]) for start in range(0, len(rows), size)]
        return [{"rows": part, "hashes": hashes[part].tobytes()} for part in parts]

    def __call__(self, batch: Block) -> Block:
        """Vectors of one block.

        Raises:
            KnowledgeBaseError: the file is not there, or holds other passages than meant.
            ModelError: the encoder cannot be loaded.
        """
        encoder, passages = self._opened = self._opened or self._open()
        rows, hashes = np.asarray(batch["rows"][0]), batch["hashes"][0]
        part = passages.take(rows) if rows[-1] < len(passages) else None
        if part is None or part.content_hashes.tobytes() != hashes:
            raise KnowledgeBaseError(f"{passages.place}: {_ELSEWHERE}")
        return {"row": rows, "vector": encoder.encode_passages(list(part), precision=self._precision)}

    def _open(self) -> tuple[Any, Passages]:
        from ragtune.models.devices import best_device
        from ragtune.models.encoders import Encoder

        name, fingerprint, path = self._task
        try:
            passages = Passages.open(path)
        except StorageError as error:
            raise KnowledgeBaseError(f"{path}: {_ELSEWHERE}") from error
        encoder = Encoder.from_pretrained(name, role="passage").to(best_device())
        if encoder.fingerprint != fingerprint:
            raise KnowledgeBaseError(
                f"{name}: is another encoder on the Ray cluster's machines (fingerprint {encoder.fingerprint[:12]}, "
                f"here {fingerprint[:12]}); give both the same folder, or name@revision of the hub"
            )
        return encoder, passages


_ELSEWHERE = (
    "the Ray cluster's machines do not see the passages that were written there; mount the workspace on them at the "
    "same path, or set embed_on=here"
)


class EmbeddingStream:
    """The actor that drives Ray Data, and hands out one block of vectors after the other."""

    def __init__(self, task: dict[str, str], blocks: list[Block], actors: "Actors"):
        """Set the pipeline up; it runs from the first `next_block` on, and as far ahead as the object store allows."""
        import ray.data

        ray.data.DataContext.get_current().enable_progress_bars = False
        embedded = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
            Embedding,
            fn_constructor_kwargs=task,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(actors.count, len(blocks))),
            num_cpus=actors.cpus,
            num_gpus=actors.gpus,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
        )
        self._blocks: Iterator[Any] = iter(embedded.iter_batches(batch_size=None, batch_format="numpy"))

    def next_block(self) -> tuple[Rows, Floats] | None:
        """Rows and their vectors; None after the last."""
        for block in self._blocks:
            return block["row"], block["vector"]
        return None
