"""An ingestion's inputs: the passages that shall be served, and how a version of them is made."""

from dataclasses import dataclass, replace
from pathlib import Path

from ragtune.knowledge.embedding import EMBEDDINGS, EmbeddingCache
from ragtune.knowledge.feature_repo import FEATURE_STORE, milvus_uri_of
from ragtune.knowledge.manifest import METRIC, Manifest, now
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.retrieved import PassageEncoder


@dataclass(frozen=True)
class Wanted:
    """The passages to serve, and the choices that their version is made with.

    Attributes:
        folder: of the knowledge base.
        passages: to serve.
        encoder: makes the vectors that the cache lacks.
        name: of the knowledge base.
        index: "auto", "HNSW" or "FLAT".
        uri: of a Milvus server; "" is embedded.
        token: for the server.
        embedding_cache: folder for vectors by content and encoder; "" is `embeddings` in `folder`.
        chunk_rows: rows per call of Feast's `write_to_online_store`.
        ending: of its collection's name on a server; "" is a random one.
    """

    folder: Path
    passages: Passages
    encoder: PassageEncoder
    name: str
    index: str
    uri: str
    token: str
    embedding_cache: str | Path
    chunk_rows: int
    ending: str = ""

    def manifest(self, version: str = "") -> Manifest:
        """The manifest that a version of it has."""
        return Manifest(
            version=version,
            name=self.name,
            encoder=self.encoder.name,
            encoder_fingerprint=self.encoder.fingerprint,
            dimension=self.encoder.dimension,
            precision=self.encoder.precision,
            metric=METRIC,
            index=self.index,
            rows=len(self.passages),
            content_hash=self.passages.content_hash,
            created=now(),
        )

    def as_in(self, folder: Path, manifest: Manifest) -> "Wanted":
        """The same passages and encoder, with the choices that a version was made with."""
        uri = milvus_uri_of(folder) if (folder / FEATURE_STORE).exists() else self.uri
        return replace(self, name=manifest.name, index=manifest.index, uri=uri)

    def is_in(self, folder: Path, manifest: Manifest | None) -> bool:
        """True where the version in a folder, finished or not, is one of it."""
        own = self.manifest()
        like = manifest and replace(
            manifest,
            version=own.version,
            encoder=own.encoder,
            created=own.created,
            built_index=own.built_index,
            index_recall=own.index_recall,
            checksums=own.checksums,
        )
        return like == own and (not (folder / FEATURE_STORE).exists() or milvus_uri_of(folder) == self.uri)

    def cache(self, manifest: Manifest) -> EmbeddingCache:
        """The cache of a version's vectors, those of its precision."""
        vectors_of = (manifest.encoder_fingerprint, manifest.dimension, manifest.precision)
        return EmbeddingCache(self.embedding_cache or self.folder / EMBEDDINGS, *vectors_of)
