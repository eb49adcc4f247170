"""The knowledge base of a run, opened once or in every process, and checked against the model."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ragtune.errors import TakenError, TrainingError
from ragtune.knowledge.exact_base import ExactKnowledgeBase
from ragtune.knowledge.manifest import EMBEDDED_DATABASE, PASSAGES, Manifest
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.pointers import resolve
from ragtune.knowledge.serving import served
from ragtune.models.rag import RagModel
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.distributed.rank_zero import of_first_process
from ragtune.training.retrieval.gather import Gather
from ragtune.training.retrieval.ray_retrieval import check_ray, is_connected, ray_connection, ray_retrieval
from ragtune.training.retrieval.search import Retrying, Search


@dataclass(frozen=True)
class Knowledge:
    """An open knowledge base, as a trainer needs it.

    Attributes:
        search: finds passages, wherever.
        passages: by row.
    """

    search: Search
    passages: Passages


def check_knowledge(files: RunFiles, args: RagTrainingArguments, model: RagModel) -> tuple[Path, Manifest]:
    """Check, without opening it, that a knowledge base fits this run; the version's folder and manifest.

    Raises:
        KnowledgeBaseError: there is none, or it is not whole.
        TrainingError: it was made with another passage encoder, is too small for n_docs, or cannot serve as many
            processes, machines or actors as there are; or Ray is asked for and not there.
    """
    folder, manifest = resolve(files.knowledge_base_folder)
    encoder = model.passage_encoder
    if manifest.encoder_fingerprint != encoder.fingerprint:
        raise TrainingError(
            f"{folder}: was made with the encoder {manifest.encoder}, not with the model's passage "
            f"encoder {encoder.name}; ingest the passages with that one"
        )
    if args.n_docs > manifest.rows:
        raise TrainingError(f"n_docs={args.n_docs}: {folder} has {manifest.rows} passages only; lower n_docs")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size))  # torchrun's
    if args.retrieval == "ray":
        check_ray(here, args.world_size)
    if _is_embedded(folder, files):
        if args.retrieval == "direct" and args.world_size > here:
            raise TrainingError(
                f"{folder}: is an embedded Milvus, which serves one machine, but {args.world_size} processes on "
                "several want to search it; set retrieval=gather, or ingest into a Milvus server"
            )
        if args.retrieval == "ray" and args.retrieval_actors > 1:
            raise TrainingError(
                f"retrieval_actors={args.retrieval_actors}: {folder} is an embedded Milvus, which one actor can open; "
                "set it to 1, or ingest into a Milvus server"
            )
    return folder, manifest


@contextmanager
def open_knowledge(
    folder: Path, manifest: Manifest, files: RunFiles, args: RagTrainingArguments
) -> Iterator[Knowledge]:
    """Open the knowledge base in the processes where `args.retrieval` wants it; every process must call it.

    An embedded one that several processes search is served by a process of its own while the block lasts; one that
    another run has open is searched exactly.

    Raises:
        KnowledgeBaseError: it cannot be opened.
        TrainingError: Ray cannot be started.
    """
    process, uri = args.process_index, files.milvus_uri
    several = args.world_size > 1
    with ExitStack() as stack:
        if args.retrieval == "exact":
            search: Search = stack.enter_context(ExactKnowledgeBase(folder, manifest, [str(args.device)]))
        elif args.retrieval == "ray":
            if not is_connected():
                stack.enter_context(ray_connection(args))
            search = stack.enter_context(ray_retrieval(folder, uri, args))
        elif several and args.retrieval == "gather":
            base = None if process else stack.enter_context(_opened(folder, uri, args))
            search = stack.enter_context(closing(Gather(base, manifest.dimension)))
        else:
            if several and _is_embedded(folder, files):
                uri = stack.enter_context(of_first_process(process, _served(folder / EMBEDDED_DATABASE)))
            search = stack.enter_context(_opened(folder, uri, args))
        yield Knowledge(search, Passages.open(folder / PASSAGES))


def _is_embedded(folder: Path, files: RunFiles) -> bool:
    return (folder / EMBEDDED_DATABASE).exists() and not files.milvus_uri


@contextmanager
def _served(database: Path) -> Iterator[str]:
    """As `served`; "" where another process has it open, so that each process searches exactly."""
    with ExitStack() as stack:
        try:
            uri = stack.enter_context(served(database))
        except TakenError:
            uri = ""
        yield uri


@contextmanager
def _opened(folder: Path, uri: str, args: RagTrainingArguments) -> Iterator[Search]:
    from ragtune.knowledge.opening import open_to_read  # Feast takes seconds to import

    search = Retrying(lambda: open_to_read(folder, uri=uri, devices=[str(args.device)]))
    with closing(search):
        search.connect()
        yield search
