import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from animals import WordEncoder, animal_texts, free_port, write_passages

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
def lite_server():
    """Start `milvus-lite server` on loopback for a database; its URI."""
    started = []

    def start(database):
        port = free_port()
        command = [Path(sys.executable).with_name("milvus-lite"), "server", "--data-dir", database]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=20)
