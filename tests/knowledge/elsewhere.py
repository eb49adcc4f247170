"""Work in other processes, which may die of SIGKILL on the way."""

import multiprocessing
import os
import signal

from animals import WordEncoder

from ragtune.errors import KnowledgeBaseError

# One server process imports Feast, once; each child is a fork of it.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ragtune.knowledge.knowledge_base"])


def elsewhere(function, *args):
    """Run a function of this module in a process of its own; how that ended: 0, or minus the signal's number."""
    process = _context.Process(target=function, args=args)
    process.start()
    process.join(120)
    return process.exitcode


def answer_from_elsewhere(function, *args):
    """The same, and what the function returned."""
    with _context.Pool(1) as pool:
        return pool.apply(function, args)


def rows_or_error(folder):
    from ragtune.knowledge.knowledge_base import KnowledgeBase

    try:
        with KnowledgeBase.open(folder) as base:
            return base.manifest.rows
    except KnowledgeBaseError as error:
        return str(error)


def ingest_and_count(passages, folder):
    """Ingest, open what is served then, and count its rows."""
    from ragtune.knowledge.knowledge_base import ingest_passages

    ingest_passages(passages, folder, WordEncoder())
    return rows_or_error(folder)


def open_and_ingest_as_nobody(folder, passages):
    """The errors of both, for a user who owns nothing."""
    from ragtune.knowledge.knowledge_base import ingest_passages

    rows_or_error(folder)  # imports what that user may not read
    os.setuid(65534)
    opened = rows_or_error(folder)
    try:
        ingest_passages(passages, folder, WordEncoder())
    except KnowledgeBaseError as error:
        return opened, str(error)
    return opened, ""


def ingest_and_die(place, passages, folder):
    """Ingest in chunks of 100 rows, killed without warning at a place on the way."""
    from ragtune.knowledge import embedding, ingestion, knowledge_base, rows
    from ragtune.knowledge.online_store import BatchedMilvusOnlineStore as Store

    embedding._ROWS_PER_CALL, embedding._SECONDS_PER_CALL, embedding._SECONDS_PER_FILE = 50, 0.0, 0.0
    owner, name, calls = {
        "embedding": (embedding.EmbeddingCache, "add", 3),
        "writing": (Store, "online_write_batch", 2),
        "indexing": (Store, "build_index", 1),
        "probing": (rows, "build_index", 1),
        "serving": (ingestion, "serve", 0),
        "cleaning": (ingestion, "_remove_abandoned", 0),
    }[place]
    function = getattr(owner, name)

    def killed_after(*args, **options):
        nonlocal calls
        result = function(*args, **options) if calls else None
        calls -= 1
        if calls <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killed_after)
    knowledge_base.ingest_passages(passages, folder, WordEncoder(), chunk_rows=100)
