"""An embedded Milvus for several processes of this machine: `python -m ragtune.knowledge.serving DATABASE`.

It listens on loopback, on a port of its own, and ends with the process that started it (`ragtune.companion`).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragtune.companion import announce, announced_errors, companion, wait_for_end


@contextmanager
def served(database: Path) -> Iterator[str]:
    """The URI of an embedded database, which a process of its own serves as long as the context lasts.

    Raises:
        KnowledgeBaseError: another process has it open.
    """
    with companion("ragtune.knowledge.serving", str(database.absolute())) as announced:
        yield announced["uri"]


def main(database: Path) -> None:
    """Serve until standard input ends."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    from ragtune.knowledge.milvus import check_no_other_owner

    with announced_errors():
        check_no_other_owner(database)
        server, milvus, port = start_server_in_thread(str(database), host="127.0.0.1", port=0)
    announce({"uri": f"http://127.0.0.1:{port}"})
    wait_for_end()
    server.stop(grace=2)
    milvus.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
