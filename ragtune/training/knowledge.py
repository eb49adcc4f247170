"""The knowledge base of a run, opened once or in every process, and checked against the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ragtune.errors import TrainingError
from ragtune.knowledge.manifest import Manifest, resolve
from ragtune.knowledge.passages import Passages
from ragtune.models.rag import RagModel
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.retrieval import Gather, Search

_EMBEDDED_DATABASE = "milvus.db"


@dataclass(frozen=True)
class Knowledge:
    """An open knowledge base, as a trainer needs it.

    Attributes:
        search: finds passages, in this process or by way of the first.
        passages: by row.
    """

    search: Search
    passages: Passages


def check_knowledge(files: RunFiles, args: RagTrainingArguments, model: RagModel) -> tuple[Path, Manifest]:
    """Ask, without opening it, whether a knowledge base serves this run; its folder and manifest.

    Raises:
        KnowledgeBaseError: there is none, or it is not whole.
        TrainingError: it was made with another passage encoder, is too small for n_docs, or would be opened by
            several processes though only one can.
    """
    folder, manifest = resolve(files.knowledge_base_folder)
    encoder = model.passage_encoder
    if manifest.encoder_fingerprint != encoder.fingerprint:
        raise TrainingError(
            f"{folder}: {manifest.version} was made with the encoder {manifest.encoder}, not with the model's passage "
            f"encoder {encoder.name}; ingest the passages with that one"
        )
    if args.n_docs > manifest.rows:
        raise TrainingError(f"n_docs={args.n_docs}: {folder} has {manifest.rows} passages only; lower n_docs")
    embedded = (folder / _EMBEDDED_DATABASE).exists() and not files.milvus_uri
    if args.world_size > 1 and args.retrieval == "direct" and embedded:
        raise TrainingError(
            f"{folder}: is an embedded Milvus, which one process can open, but {args.world_size} want to; set "
            "retrieval=gather, or serve it (milvus-lite server) and give milvus_uri"
        )
    return folder, manifest


@contextmanager
def open_knowledge(
    folder: Path, manifest: Manifest, files: RunFiles, args: RagTrainingArguments
) -> Iterator[Knowledge]:
    """Open the knowledge base in this process where `args.retrieval` wants it; every process must call it.

    Raises:
        KnowledgeBaseError: it cannot be opened.
    """
    gathers = args.world_size > 1 and args.retrieval == "gather"
    if gathers and args.process_index:
        yield Knowledge(Gather(None, manifest.dimension), Passages.open(folder / manifest.passages))
        return
    from ragtune.knowledge.knowledge_base import KnowledgeBase  # Feast takes seconds to import

    with KnowledgeBase.open(folder, uri=files.milvus_uri) as base:
        yield Knowledge(Gather(base, manifest.dimension) if gathers else base, base.passages)
