"""Questions and passages in S3: moto's server on loopback, s3fs as users have it."""

import gzip
import io
import json
import logging
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragtune.errors import StorageError
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.questions.filtering import filter_questions
from ragtune.questions.rows import read_rows
from ragtune.sources import fingerprint

ROWS = [{"id": str(number), "question": f"who is {number}", "answers": [f"n{number}"]} for number in range(200)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture(scope="module")
def server():
    """The endpoint of an S3 server that asks for credentials."""
    pytest.importorskip("s3fs")
    threaded = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    threaded.start()
    yield "http://{}:{}".format(*threaded.get_host_and_port())
    threaded.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """An empty bucket, reached with what the environment says."""
    import boto3
    import s3fs

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    bucket = boto3.resource("s3").create_bucket(Bucket="data")
    s3fs.S3FileSystem.clear_instance_cache()
    yield bucket
    s3fs.S3FileSystem.clear_instance_cache()
    bucket.objects.delete()
    bucket.delete()


def put(bucket, name, content):
    bucket.put_object(Key=name, Body=content)
    return f"s3://data/{name}"


def values(uri):
    return [row.value for row in read_rows(uri)]


def test_files_folders_and_globs_are_read(bucket):
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    assert values(put(bucket, "one/q.jsonl", LINES)) == ROWS
    assert values(put(bucket, "q.jsonl.gz", gzip.compress(LINES))) == ROWS
    assert values(put(bucket, "q.parquet", table.getvalue())) == ROWS
    put(bucket, "one/r.jsonl", LINES)
    assert values("s3://data/one") == values("s3://data/one/*.jsonl") == ROWS * 2


def test_boxes_read_from_s3(bucket, tmp_path):
    outputs = [tmp_path / name for name in ("train", "validation", "test", "rejected")]
    counts = filter_questions(put(bucket, "q.jsonl", LINES), *outputs)
    assert counts["questions_kept"] == len(ROWS)
    assert '"source": "s3://data/q.jsonl:1"' in "".join(path.read_text() for path in outputs)
    split_passages(put(bucket, "c.csv", b"id,text\n1,Lima\n"), tmp_path / "passages.parquet")
    assert Passages.open(tmp_path / "passages.parquet")[0].text == "Lima"


def test_options_in_a_file_reach_s3_as_a_secret_on_a_cluster_does(bucket, server, tmp_path):
    uri = put(bucket, "q.jsonl", LINES)
    options = {"s3": {"key": "key", "secret": "secret", "endpoint_url": server}}
    (tmp_path / "sources.json").write_text(json.dumps(options))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"FSSPEC_CONFIG_DIR": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    code = f"from ragtune.questions.rows import read_rows; print(sum(1 for _ in read_rows({uri!r})))"
    for given, ended in ((environment, 0), ({**environment, "FSSPEC_CONFIG_DIR": "/nowhere"}, 1)):
        result = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True)
        assert result.returncode == ended, result.stderr
    assert "redentials" in result.stderr


def test_the_fingerprint_follows_the_etag_and_downloads_nothing(bucket, caplog):
    uri = put(bucket, "one/q.jsonl", LINES)
    with caplog.at_level(logging.INFO, "werkzeug"):
        before, folder = fingerprint(uri), fingerprint("s3://data/one")
        assert fingerprint(uri) == before
        asked = [record.getMessage() for record in caplog.records if "/data" in record.getMessage()]
    assert asked
    assert not any("GET /data/one/q.jsonl" in message for message in asked)
    put(bucket, "one/q.jsonl", LINES.replace(b"who", b"why"))
    assert fingerprint(uri) != before
    assert fingerprint("s3://data/one") != folder


def test_what_is_not_there_is_named(bucket):
    for uri, message in {
        "s3://data/absent.jsonl": "no such file",
        "s3://data/absent-*.jsonl": "no files there",
        "s3://nowhere/q.jsonl": "no such file",
    }.items():
        with pytest.raises(StorageError, match=message) as raised:
            values(uri)
        assert uri in str(raised.value)
        with pytest.raises(StorageError):
            fingerprint(uri)


def test_a_server_out_of_reach_is_named(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match=r"s3://data/q\.jsonl: .*127\.0\.0\.1:9"):
        values("s3://data/q.jsonl")


def test_credentials_that_lack_are_named(bucket, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match=r"s3://data/q\.jsonl: .*redentials"):
        values(put(bucket, "q.jsonl", LINES))
