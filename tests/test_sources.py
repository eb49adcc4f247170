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
