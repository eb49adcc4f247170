import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.serving import served

STARTER = """
import sys, time
from pathlib import Path
from ragtune.knowledge.serving import served
with served(Path(sys.argv[1])) as uri:
    print(uri, flush=True)
    time.sleep(100)
"""


def test_an_embedded_base_is_served_on_loopback_and_let_go_of(folder, encoder):
    queries = encoder.encode(["the otter of the forest", "lynx eats roots"])
    with KnowledgeBase.open(folder) as embedded:
        expected = embedded.search(queries, 3)
    others = set(psutil.Process().children())
    with served(folder / "kb_v1" / "milvus.db") as uri:
        (server,) = set(psutil.Process().children()) - others
        assert {socket.laddr.ip for socket in server.net_connections("tcp")} <= {"127.0.0.1", "::ffff:127.0.0.1"}
        with KnowledgeBase.open(folder, uri=uri) as one, KnowledgeBase.open(folder, uri=uri) as other:
            for base in (one, other):
                assert np.array_equal(base.search(queries, 3).rows, expected.rows)
    assert not server.is_running()
    KnowledgeBase.open(folder).close()


def test_a_base_that_is_open_elsewhere_is_not_served(folder):
    second = served(folder / "kb_v1" / "milvus.db")
    refused = pytest.raises(KnowledgeBaseError, match="is open in another process")
    with served(folder / "kb_v1" / "milvus.db"), refused, second:
        pass


def test_the_server_ends_with_a_starter_that_is_killed(folder):
    starter = subprocess.Popen([sys.executable, "-c", STARTER, folder / "kb_v1" / "milvus.db"], stdout=subprocess.PIPE)
    assert starter.stdout.readline().startswith(b"http://127.0.0.1:")
    (server,) = psutil.Process(starter.pid).children()
    os.kill(starter.pid, signal.SIGKILL)
    starter.communicate()
    deadline = time.monotonic() + 20
    while server.is_running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.is_running()
