"""Sources on an HTTP server that does what servers do: breaks off, refuses, fails, says nothing."""

import gzip
import io
import json
import threading
import time
import traceback
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragtune import reading
from ragtune.errors import StorageError
from ragtune.knowledge.split_corpus import split_passages
from ragtune.questions.filtering import filter_questions
from ragtune.questions.rows import read_rows
from ragtune.sources import fingerprint

ROWS = [{"id": str(number), "question": f"who is {number}", "answers": [f"n{number}"]} for number in range(2000)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


class Server(ThreadingHTTPServer):
    """Serves `files` by path; the path's first part says how."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.sent = 0
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        how, _, name = self.path.removeprefix("/").partition("?")[0].partition("/")
        self.server.requests.append((self.command, how))
        content = self.server.files.get(name, LINES)
        if how == "moved":  # to a signed URL, as releases and data hubs do it
            self.send_response(302)
            self.send_header("Location", f"/403/{name}?X-Amz-Signature=s3cr3t")
            self.end_headers()
        elif how == "hang" or (how == "headless-hang" and not body):
            self.server.over.wait(30)
        elif how.isdigit() or (how == "no-head" and not body):
            self.send_error(int(how) if how.isdigit() else 403)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + (how == "short") * 1000))
            for header, value in self.server.headers.items():
                self.send_header(header, value)
            self.end_headers()
            if body:
                self.send(content[: len(content) // 2] if how == "stall" else content)
                if how == "stall":
                    self.server.over.wait(30)

    def send(self, content):
        for start in range(0, len(content), 1 << 16):
            try:
                self.server.sent += self.wfile.write(content[start : start + (1 << 16)])
            except OSError:
                return

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def values(uri):
    return [row.value for row in read_rows(uri)]


@pytest.mark.parametrize("how", ["ok", "no-head"])
def test_rows_come_over_http(server, how):
    server.files = {"q.jsonl.gz": gzip.compress(LINES), "q.csv": b"id,text\n1,a\n"}
    assert values(f"{server.uri}/{how}/q.jsonl") == ROWS
    assert values(f"{server.uri}/{how}/q.jsonl.gz") == ROWS
    assert values(f"{server.uri}/{how}/q.jsonl.gz?download=1") == ROWS
    assert values(f"{server.uri}/{how}/q.csv?download=1") == [{"id": "1", "text": "a"}]
    assert ("HEAD", how) not in server.requests


def test_a_long_file_comes_from_a_server_without_ranges(server):
    server.files["q.jsonl"] = b"".join(b'{"a": "%d%s"}\n' % (number, b"x" * (1 << 20)) for number in range(12))
    assert len(values(f"{server.uri}/ok/q.jsonl")) == 12
    assert server.sent == len(server.files["q.jsonl"])


@pytest.mark.parametrize("name", ["q.jsonl.gz", "q.jsonl"])
def test_gzip_that_the_server_calls_an_encoding_is_unpacked_once(server, name):
    server.headers = {"Content-Encoding": "gzip"}
    server.files[name] = gzip.compress(LINES)
    assert values(f"{server.uri}/ok/{name}") == ROWS


def test_a_zip_comes_over_http(server):
    for name, members in {"one.zip": ["a.jsonl"], "two.zip": ["a.jsonl", "b.jsonl"]}.items():
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            for member in members:
                archive.writestr(member, LINES)
        server.files[name] = written.getvalue()
    assert values(f"{server.uri}/ok/one.zip?download=1") == ROWS
    with pytest.raises(StorageError, match=r"two\.zip: holds 2 files"):
        values(f"{server.uri}/ok/two.zip")


def test_parquet_comes_over_http(server):
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), written)
    server.files["q.parquet"] = written.getvalue()
    assert values(f"{server.uri}/ok/q.parquet") == ROWS


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("403", r"/403/q\.jsonl: no permission to read it \(403.*your credentials"),
        ("401", r"/401/q\.jsonl: no permission to read it \(401"),
        ("404", r"/404/q\.jsonl: no such file; check the path or URI"),
        ("500", r"/500/q\.jsonl: the server answers 500 .*after line 0; try again later"),
        ("503", r"/503/q\.jsonl: the server answers 503"),
        ("short", r"/short/q\.jsonl: reading stopped after line \d.*ContentLengthError"),
    ],
)
def test_what_a_server_refuses_or_breaks_off_is_named(server, how, message):
    with pytest.raises(StorageError, match=message):
        values(f"{server.uri}/{how}/q.jsonl")


@pytest.mark.parametrize("how", ["403", "401", "404", "500", "503"])
def test_the_fingerprint_names_it_too(server, how):
    said = {"403": "no permission", "401": "no permission", "404": "no such file"}.get(how, f"answers {how}")
    with pytest.raises(StorageError, match=rf"/{how}/q\.jsonl: .*{said}"):
        fingerprint(f"{server.uri}/{how}/q.jsonl")


def test_a_truncated_gzip_over_http_is_named(server):
    server.files["q.jsonl.gz"] = gzip.compress(LINES)[:-500]
    with pytest.raises(StorageError, match=r"q\.jsonl\.gz: broken gzip after line \d"):
        values(f"{server.uri}/ok/q.jsonl.gz")


@pytest.mark.parametrize("how", ["hang", "stall"])
def test_a_silent_server_is_given_up(server, monkeypatch, how):
    monkeypatch.setattr(reading, "SILENCE_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(
        StorageError, match=rf"/{how}/q\.jsonl: the server sent nothing for 0\.5 s after line \d.*later"
    ):
        values(f"{server.uri}/{how}/q.jsonl")
    with pytest.raises(StorageError, match=r"the server sent nothing for 0\.5 s"):
        fingerprint(f"{server.uri}/{how}/q.jsonl")
    assert time.monotonic() - start < 10


def test_boxes_leave_nothing_of_a_source_that_breaks_off(server, tmp_path):
    server.files["c.csv"] = b"id,text\n" + b"".join(b"%d,text %d\n" % (number, number) for number in range(9000))
    with pytest.raises(StorageError, match="reading stopped"):
        split_passages(f"{server.uri}/short/c.csv", tmp_path / "passages.parquet")
    outputs = [tmp_path / name for name in ("train", "validation", "test", "rejected")]
    with pytest.raises(StorageError, match="reading stopped"):
        filter_questions(f"{server.uri}/short/q.jsonl", *outputs)
    assert list(tmp_path.iterdir()) == []


def test_a_signed_url_is_read_and_stands_in_no_source(server, tmp_path):
    outputs = [tmp_path / name for name in ("train", "validation", "test", "rejected")]
    filter_questions(f"{server.uri}/ok/q.jsonl?X-Amz-Date=1&X-Amz-Signature=s3cr3t&sig=s3cr3t", *outputs)
    written = "".join(path.read_text() for path in outputs)
    assert f"{server.uri}/ok/q.jsonl?X-Amz-Date=1&X-Amz-Signature=***&sig=***:1" in written
    assert "s3cr3t" not in written


@pytest.mark.parametrize("read", [lambda uri: list(read_rows(uri)), fingerprint], ids=["rows", "fingerprint"])
def test_a_traceback_does_not_show_the_signed_url_that_a_server_redirects_to(server, read):
    with pytest.raises(StorageError, match="no permission to read it") as caught:
        read(f"{server.uri}/moved/x.jsonl")
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("uri", ["https://host/q", "http://host/q"])
def test_every_http_filesystem_gives_up_on_silence(uri, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "http", {"client_kwargs": {"headers": {"Authorization": "Bearer x"}}})
    filesystem, _ = reading.filesystem_of(uri)
    assert filesystem.client_kwargs["timeout"].sock_read == reading.SILENCE_SECONDS
    assert filesystem.client_kwargs["headers"] == {"Accept-Encoding": "identity", "Authorization": "Bearer x"}
    assert filesystem.kwargs == {}


@pytest.mark.parametrize("how", ["ok", "no-head"])
@pytest.mark.parametrize(
    ("headers", "changed"),
    [
        ({"ETag": '"1"'}, {"ETag": '"2"'}),
        ({"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}, {"Last-Modified": "Sat, 21 Nov 2026 10:00:01 GMT"}),
    ],
)
def test_a_remote_file_is_fingerprinted_without_its_bytes(server, how, headers, changed):
    server.files["q.jsonl"] = LINES * 200  # 20 MB
    uri = f"{server.uri}/{how}/q.jsonl"
    server.headers = headers
    before = fingerprint(uri)
    assert fingerprint(uri) == before
    server.headers = changed
    assert fingerprint(uri) != before
    assert server.sent < len(server.files["q.jsonl"]) / 2


def test_a_size_that_changes_in_the_same_second_counts(server):
    server.headers = {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    before = fingerprint(f"{server.uri}/ok/q.jsonl")
    server.files["q.jsonl"] = LINES[:-1]
    assert fingerprint(f"{server.uri}/ok/q.jsonl") != before


def test_the_bytes_count_where_the_server_tells_nothing_else(server):
    server.files["q.jsonl"] = LINES * 100  # more than a block of fsspec's
    before = fingerprint(f"{server.uri}/ok/q.jsonl")
    server.files["q.jsonl"] = LINES.replace(b"who", b"why") * 100
    assert fingerprint(f"{server.uri}/ok/q.jsonl") != before


def test_a_signature_is_no_part_of_a_fingerprint(server):
    server.headers = {"ETag": '"1"'}
    assert fingerprint(f"{server.uri}/ok/q?sig=a") == fingerprint(f"{server.uri}/ok/q?sig=b")
