import fsspec
import pytest

from ragtune.errors import StorageError
from ragtune.sources import fingerprint


def test_a_fingerprint_follows_the_content_behind_an_unchanged_uri(tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("a")
    before = fingerprint(str(questions))
    assert fingerprint(str(questions)) == before
    questions.write_text("b")
    assert fingerprint(str(questions)) != before


def test_which_uri_holds_what_matters(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert len({fingerprint(a, b), fingerprint(b, a), fingerprint(a, "", b), fingerprint(a)}) == 4


def test_a_hub_out_of_reach_is_named():
    with pytest.raises(StorageError, match=r"hf://owner/name: the Hugging Face hub did not say"):
        fingerprint("hf://owner/name")


def test_a_glob_is_the_contents_of_its_files(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(name)
    before = fingerprint(f"{tmp_path}/*.jsonl")
    (tmp_path / "c.txt").write_text("c")
    assert fingerprint(f"{tmp_path}/*.jsonl") == before
    (tmp_path / "b.jsonl").write_text("c")
    assert fingerprint(f"{tmp_path}/*.jsonl") != before


def test_a_dataset_in_a_local_folder_is_hashed_and_its_split_matters(tmp_path):
    (tmp_path / "train.jsonl").write_text("a")
    before = fingerprint(f"hf://{tmp_path}?split=train")
    assert fingerprint(f"hf://{tmp_path}?split=test") != before
    (tmp_path / "train.jsonl").write_text("b")
    assert fingerprint(f"hf://{tmp_path}?split=train") != before


def test_a_name_too_long_for_a_file_is_no_fault_of_a_uri(tmp_path):
    with fsspec.open(f"memory://{'x' * 300}.jsonl", "wb") as stream:
        stream.write(b"a")
    assert fingerprint(f"memory://{'x' * 300}.jsonl")
    with pytest.raises(StorageError, match="File name too long"):
        fingerprint(f"{tmp_path}/{'x' * 300}.jsonl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StorageError, match="absent: no such file"):
        fingerprint(f"{tmp_path}/absent")
