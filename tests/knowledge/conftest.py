import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from animals import WordEncoder, animal_texts, write_passages

from ragtune.knowledge.knowledge_base import ingest_passages


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture
def corpus(tmp_path):
    return write_passages(tmp_path / "passages.parquet", animal_texts(300))


@pytest.fixture(scope="session")
def _built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    ingest_passages(write_passages(folder / "passages.parquet", animal_texts(300)), folder / "base", WordEncoder())
    return folder / "base"


@pytest.fixture
def folder(tmp_path, _built):
    """A knowledge base of `corpus`, made with `encoder`."""
    return shutil.copytree(_built, tmp_path / "base")


@pytest.fixture
def version(folder):
    """The folder of its one version."""
    return folder / "kb_v1"


@pytest.fixture
def http_server():
    """The URI of something that is no Milvus."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
