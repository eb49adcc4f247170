import errno
import gzip
import os
import threading

import numpy as np
import pytest
from safetensors.numpy import save_file

from ragtune import files
from ragtune.errors import StorageError
from ragtune.files import atomic_file, atomic_path, content_hash, open_uri


def test_a_failed_write_leaves_what_stood_there_before(tmp_path):
    target = tmp_path / "questions.jsonl"
    target.write_text("old")
    with pytest.raises(ValueError, match="half"), atomic_file(target) as stream:
        stream.write("new, but only hal")
        raise ValueError("half")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["questions.jsonl"]


def test_a_folder_replaces_a_folder_whole(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale").write_text("")
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("w")
    assert [path.name for path in target.iterdir()] == ["weights"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_there_at_every_moment_while_another_takes_its_place(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    if not files._swap(target, target):
        pytest.skip("the file system cannot exchange two names")
    gone, done = [], threading.Event()

    def look():
        while not done.is_set():
            try:
                target.stat()
            except FileNotFoundError:
                gone.append(1)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(40):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "weights").write_text(str(number))
    done.set()
    looking.join()
    assert not gone and (target / "weights").read_text() == "39"


def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_swap", lambda one, other: False)
    for content in ("old", "new"):
        with atomic_path(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / "weights").write_text(content)
    assert (tmp_path / "model" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_named_with_its_place_and_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match=r"model: the disk is full"), atomic_path(tmp_path / "model") as temporary:
        temporary.write_text("some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_really_is_full(small_disk):
    with pytest.raises(StorageError, match="disk is full"), atomic_file(small_disk / "big", "wb") as stream:
        stream.write(b"x" * 1_000_000)
    with pytest.raises(StorageError, match="disk is full"), atomic_path(small_disk / "weights") as temporary:
        save_file({"w": np.zeros(100_000)}, temporary)
    assert list(small_disk.iterdir()) == []


def test_reads_plain_and_gzip_alike(tmp_path):
    (tmp_path / "a.jsonl").write_text("ä\n", encoding="utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write("ä\n")
    for name in ("a.jsonl", "b.jsonl.gz"):
        with open_uri(tmp_path / name, "rt") as stream:
            assert stream.read() == "ä\n"


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"nowhere\.jsonl: no such file"):
        open_uri(tmp_path / "nowhere.jsonl")
    with pytest.raises(StorageError, match=r"nowhere\.jsonl: no such file"):
        content_hash(tmp_path / "nowhere.jsonl")


def test_a_hash_follows_names_and_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("1")
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "y")
    assert content_hash(tmp_path / "a") != content_hash(tmp_path / "b")
    assert content_hash(tmp_path / "a" / "x") == content_hash(f"file://{tmp_path / 'a' / 'x'}")
