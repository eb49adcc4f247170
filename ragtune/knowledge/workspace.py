"""The knowledge base of a pipeline's run: in the workspace, with a pointer to it; without one, in an artifact.

An artifact is a knowledge base of its own: the next run does not find it. Its collection on the Milvus server is named
after its rows, so that a run of the same passages takes the one that is there instead of leaving one more behind.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.knowledge.address import TOKEN_VARIABLE
from ragtune.knowledge.embedding import embed_missing, share_vectors, slices
from ragtune.knowledge.feature_repo import check_choices
from ragtune.knowledge.index import first_index
from ragtune.knowledge.ingestion import Ingestion, ingest, only_one
from ragtune.knowledge.manifest import version_number
from ragtune.knowledge.milvus import connect_server
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.pointers import point_at, pointer_to
from ragtune.knowledge.retrieved import PassageEncoder
from ragtune.knowledge.wanted import Wanted
from ragtune.settings.pipeline import WAIT

CHUNK_ROWS = 5000
_WAIT_SECONDS = 6 * 3600.0  # for another ingestion into the same knowledge base
_HASHED_AT_ONCE = 32_768  # vectors
_NAME_DIGITS = 16


def ingest_into_workspace(
    passages_path: str | Path,
    pointer_folder: str | Path,
    encoder: PassageEncoder,
    workspace: str | Path,
    *,
    name: str = "passages",
    uri: str = "",
    index: str = "auto",
    when_busy: str = WAIT,
    run: str = "",
    travels: bool = False,
) -> dict[str, float]:
    """As `ingest_passages`, into the knowledge base `name` of a workspace that outlives the run; leave a pointer to it.

    Args:
        passages_path: what `split_passages` wrote.
        pointer_folder: where the pointer shall be, which `KnowledgeBase.open` follows.
        encoder: makes the passages' vectors.
        workspace: a folder that the next run will find again.
        name: of the knowledge base.
        uri: of a Milvus server; "" is embedded.
        index: as for `ingest_passages`.
        when_busy: "wait" for another process that changes the knowledge base, at most six hours, or "refuse" to.
        run: name of the run, which others are told.
        travels: `workspace` is gone with this process, so `pointer_folder` gets the knowledge base itself.

    Returns:
        Counts: `rows`, `written` (to Milvus), `embedded`, and the number of the `version`; `index_recall`, a fraction;
        and where an index was built, `index_seconds` that this took, `search_ms` per question, and how often it was
        replaced by a stronger one, `index_replaced`.

    Raises:
        KnowledgeBaseError: as `ingest_passages`.
    """
    folder = Path(pointer_folder) if travels else Path(workspace) / "knowledge_bases" / name
    cache = Path(workspace) / "embeddings" if travels else ""
    done = ingest_alone(
        passages_path,
        folder,
        encoder,
        uri,
        "",
        name,
        index,
        cache,
        CHUNK_ROWS,
        pointer_folder,
        by_rows=travels,
        run=run,
        wait_seconds=_WAIT_SECONDS if when_busy == WAIT else 0.0,
    )
    counts: dict[str, float] = {
        "rows": done.manifest.rows,
        "written": done.written,
        "embedded": done.embedded,
        "version": version_number(done.manifest.version),
        "index_recall": done.manifest.index_recall,
    }
    if built := done.built:
        counts |= {"index_seconds": round(built.seconds, 1), "index_replaced": built.replaced}
        counts["search_ms"] = round(built.found.milliseconds, 2)
    return counts


def ingest_alone(
    passages_path: str | Path,
    folder: Path,
    encoder: PassageEncoder,
    uri: str,
    token: str,
    name: str,
    index: str,
    embedding_cache: str | Path,
    chunk_rows: int,
    pointer_folder: str | Path = "",
    by_rows: bool = False,
    run: str = "",
    wait_seconds: float = _WAIT_SECONDS,
) -> Ingestion:
    """Ingest into a knowledge base while no other process does.

    Args:
        passages_path, folder, encoder, uri, token, name, index, embedding_cache, chunk_rows: as for `ingest_passages`.
        pointer_folder: gets a pointer to the version before another one can be served; "" leaves none.
        by_rows: name the collection on a server after its rows.
        run: name of the run, which others are told.
        wait_seconds: how long to wait for another process; 0 does not wait.

    Raises:
        KnowledgeBaseError: as `ingest_passages`.
    """
    try:
        passages = Passages.open(passages_path)
        check_choices(name, uri, index)
        wanted = Wanted(folder, passages, encoder, name, index, uri, token, embedding_cache, chunk_rows)
        with only_one(folder, wait_seconds, run):
            embedded = 0
            if by_rows:
                if uri:  # is asked before minutes of embedding
                    connect_server(uri, token or os.environ.get(TOKEN_VARIABLE, "")).close()
                embedded = embed_missing(passages, encoder, wanted.cache(wanted.manifest()), Path(passages_path))
                wanted = replace(wanted, ending=_hash_of_rows(wanted))
            elif pointer_folder:  # in a workspace, beside others
                share_vectors(folder, encoder.fingerprint)
            done = ingest(wanted)
            if pointer_folder:
                point_at(pointer_folder, pointer_to(folder / done.manifest.version, done.manifest))
            return replace(done, embedded=done.embedded + embedded)
    except StorageError as error:
        raise KnowledgeBaseError(str(error)) from error


def _hash_of_rows(wanted: Wanted) -> str:
    """The same for the same rows, to the last bit of their vectors: others may read a collection of that name."""
    manifest, hashes = wanted.manifest(), wanted.passages.content_hashes
    kind = first_index(wanted.index, len(hashes), manifest.dimension).kind  # under a graph their mean is taken off
    digest = hashlib.sha256(f"{manifest.content_hash} {kind}".encode())
    vectors = wanted.cache(manifest).vectors(hashes)
    for part in slices(len(hashes), _HASHED_AT_ONCE):
        digest.update(vectors[part].tobytes())
    return digest.hexdigest()[:_NAME_DIGITS]
