"""A version of a knowledge base, searched exactly: from its own files alone, without Milvus, Feast or an index."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.knowledge.damage import damaged_files
from ragtune.knowledge.exact import ExactSearcher, Floats, ranked
from ragtune.knowledge.leases import Reading
from ragtune.knowledge.manifest import PASSAGES, REPAIR, Manifest, check_encoder
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.pointers import Pointer, resolve
from ragtune.knowledge.retrieved import Retrieved
from ragtune.knowledge.vectors import VECTORS, read_vectors


class ExactKnowledgeBase:
    """As `KnowledgeBase`, with a recall of 1: every question is compared with every vector.

    Attributes:
        folder: of the version.
        manifest: of what, and made with which encoder.
        passages: by row, as `search` names them.
    """

    def __init__(self, folder: Path, manifest: Manifest, devices: Sequence[str] = ()):
        """Take a lease on the version, compare its files with their checksums, and map its vectors into memory.

        Args:
            folder, manifest: of the version.
            devices: as for `open`.
        """
        self.folder = folder
        self.manifest = manifest
        self._reading = Reading(folder)
        try:
            if damaged := damaged_files(folder, manifest.checksums, (PASSAGES, VECTORS)):
                raise KnowledgeBaseError(f"{folder}: {', '.join(damaged)}: missing or damaged; {REPAIR}")
            self.passages = Passages.open(folder / PASSAGES)
            self._searcher = ExactSearcher(read_vectors(folder, manifest.rows, manifest.dimension), devices)
        except StorageError as error:
            self.close()
            raise KnowledgeBaseError(f"{folder}: {PASSAGES} is missing; {REPAIR}") from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls, place: str | Path | Pointer, *, encoder_fingerprint: str = "", devices: Sequence[str] = ()
    ) -> "ExactKnowledgeBase":
        """Open a version that `ingest_passages` made.

        Args:
            place, encoder_fingerprint: as for `KnowledgeBase.open`.
            devices: that search, such as `cuda:0` or `cpu`; empty takes every GPU there is, else the CPU.

        Raises:
            KnowledgeBaseError: there is none, it is not whole, or was made with another encoder.
        """
        folder, manifest = resolve(place)
        check_encoder(folder, manifest, encoder_fingerprint)
        return cls(folder, manifest, devices)

    def search(self, queries: Floats, k: int) -> Retrieved:
        """The best k passages for each query by inner product, the lower row first where those are equal.

        Args:
            queries: (B, d) vectors of the encoder's other half; any B, 0 and 1 too.
            k: passages per query; more than there are gives padding.

        Raises:
            KnowledgeBaseError: the queries have another dimension or are not finite, or k is not possible.
        """
        self._reading.renew()
        rows, _ = self._searcher.search(queries, k)
        return ranked(queries, rows, self._searcher.vectors)

    def close(self) -> None:
        """Give the lease back."""
        self._reading.release()

    def __enter__(self) -> "ExactKnowledgeBase":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
