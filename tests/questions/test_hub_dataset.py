"""Datasets on a hub that runs on loopback and knows one of them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from ragtune.errors import StorageError
from ragtune.questions.hub_dataset import HubDataset
from ragtune.questions.rows import read_rows
from ragtune.sources import fingerprint

FILES = {"data/a.jsonl": b'{"question": "who"}\n', "data/b.jsonl": b'{"question": "what"}\n', "README.md": b"# name"}
COMMITS = {"main": "a" * 40, "v1": "b" * 40, "refs/convert/parquet": "c" * 40}


class Hub(BaseHTTPRequestHandler):
    """The hub's answers about owner/name."""

    def do_GET(self):
        path = self.path.partition("?")[0].replace("%2F", "/").replace("%2f", "/")
        self.server.asked.append(path)
        for revision, commit in COMMITS.items():
            if path in (f"/api/datasets/owner/name/revision/{revision}", "/api/datasets/owner/name"):
                return self.send({"id": "owner/name", "sha": commit})
            if path.startswith(tree := f"/api/datasets/owner/name/tree/{revision}"):
                return self.send(self.tree(path.removeprefix(tree).strip("/"), revision))
            if path.startswith(file := f"/datasets/owner/name/resolve/{revision}/"):
                return self.send(FILES[path.removeprefix(file)])
        return self.send_error(404)

    def tree(self, folder, revision):
        if not folder:
            return [{"type": "directory", "path": "data", "oid": "0" * 40}, self.entry("README.md", revision)]
        return [self.entry(path, revision) for path in FILES if path.startswith(f"{folder}/")]

    def entry(self, path, revision):
        return {"type": "file", "path": path, "size": len(FILES[path]), "oid": f"{path} of {revision}"}

    def send(self, content):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    """The paths that the hub was asked for."""
    from huggingface_hub import HfFileSystem

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    url = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    HfFileSystem.clear_instance_cache()
    yield server.asked
    HfFileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("uri", "name", "options"),
    [
        ("hf://owner/name", "owner/name", {}),
        ("hf://squad", "squad", {}),
        ("hf://datasets/owner/name", "owner/name", {}),
        ("hf://owner/name@v1?split=test", "owner/name", {"revision": "v1", "split": "test"}),
        ("hf://datasets/owner/name@refs/convert/parquet", "owner/name", {"revision": "refs/convert/parquet"}),
        ("hf://owner/name?config=c&revision=v1", "owner/name", {"config": "c", "revision": "v1"}),
        ("hf:///a/folder@v1?split=test", "/a/folder@v1", {"split": "test"}),
    ],
)
def test_a_dataset_is_told_by_its_uri(uri, name, options):
    assert HubDataset.parse(uri) == HubDataset(uri, name, options)


@pytest.mark.parametrize(
    "uri",
    [
        "hf://datasets/owner/name/data/a.jsonl",
        "hf://datasets/owner/name@v1/data",
        "hf://datasets/owner/name@refs/convert/parquet/a.parquet",
        "s3://bucket/owner/name",
        "owner/name",
    ],
)
def test_files_are_fsspecs(uri):
    assert HubDataset.parse(uri) is None


def test_a_file_without_the_word_datasets_is_refused_with_the_way_out():
    with pytest.raises(StorageError, match=r"a file in it hf://datasets/owner/name/file"):
        HubDataset.parse("hf://owner/name@v1/a.jsonl/b")
    with pytest.raises(StorageError, match="no such option"):
        HubDataset.parse("hf://owner/name?spilt=train")


def test_a_file_at_a_revision_is_read(hub):
    assert [row.value for row in read_rows("hf://datasets/owner/name@v1/data/b.jsonl")] == [{"question": "what"}]
    assert "/datasets/owner/name/resolve/v1/data/b.jsonl" in hub
    assert len(list(read_rows("hf://datasets/owner/name@v1/data"))) == 2
    assert len(list(read_rows("hf://datasets/owner/name/data/*.jsonl"))) == 2


def test_a_file_at_a_revision_has_a_fingerprint_without_its_bytes(hub):
    uris = [f"hf://datasets/owner/name{at}/data/a.jsonl" for at in ("", "@v1", "@refs/convert/parquet")]
    assert len({fingerprint(uri) for uri in uris}) == 3
    assert not any("/resolve/" in path for path in hub)


def test_a_dataset_has_its_commit_for_a_fingerprint(hub):
    assert HubDataset.parse("hf://datasets/owner/name@v1").commit() == COMMITS["v1"]
    assert HubDataset.parse("hf://owner/name?revision=v1").commit() == COMMITS["v1"]
    with pytest.raises(StorageError, match="the Hugging Face hub did not say"):
        HubDataset.parse("hf://owner/absent").commit()


def test_a_file_that_the_hub_has_not_is_named(hub):
    for uri in ("hf://datasets/owner/name@v1/data/absent.jsonl", "hf://datasets/owner/absent@v1/a.jsonl"):
        with pytest.raises(StorageError, match=uri):
            list(read_rows(uri))
