import json
import re

import pytest
from test_manifest import manifest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.manifest import BUILDING, MANIFEST, REPAIRING, serve, write_manifest
from ragtune.knowledge.pointers import POINTER, Pointer, as_text, from_text, read_pointer, resolve, write_pointer


@pytest.fixture
def base(tmp_path):
    """A knowledge base that serves kb_v1."""
    write_manifest(manifest(), tmp_path / "base" / "kb_v1" / MANIFEST)
    serve(tmp_path / "base", "kb_v1")
    return tmp_path / "base"


def serve_other(base, **changes):
    other = manifest(version="kb_v2", **changes)
    write_manifest(other, base / "kb_v2" / MANIFEST)
    serve(base, "kb_v2")
    return other


def test_a_pointer_leads_to_its_version_whatever_is_served_by_now(base, tmp_path):
    write_pointer(tmp_path / "artifact", base)
    pointer = json.loads((tmp_path / "artifact" / "knowledge_base.json").read_text())
    said = {"version": "kb_v1", "content_hash": "c" * 64, "encoder_fingerprint": "f" * 64}
    assert pointer == {"path": str(base), **said}
    other = serve_other(base, content_hash="d" * 64)
    assert resolve(tmp_path / "artifact") == resolve(Pointer(**pointer)) == (base / "kb_v1", manifest())
    assert resolve(base) == (base / "kb_v2", other)
    assert resolve(base / "kb_v1") == (base / "kb_v1", manifest())


def test_a_version_that_is_gone_is_replaced_by_one_with_the_same_passages_and_encoder(base):
    serve_other(base)
    pointer = Pointer(str(base), "kb_v7", "c" * 64, "f" * 64)
    assert resolve(pointer)[0] == base / "kb_v2"
    (base / "kb_v2" / MANIFEST).unlink()
    assert resolve(pointer)[0] == base / "kb_v1"


def test_a_version_that_is_not_whole_is_replaced_by_one_with_the_same_passages_and_encoder(base):
    serve_other(base)
    (base / "kb_v1" / MANIFEST).rename(base / "kb_v1" / REPAIRING)
    assert resolve(Pointer(str(base), "kb_v1", "c" * 64, "f" * 64))[0] == base / "kb_v2"


@pytest.mark.parametrize("change", [{"content_hash": "d" * 64}, {"encoder_fingerprint": "e" * 64}])
def test_nothing_else_is_taken_for_a_version_that_is_gone(base, change):
    meant = {"content_hash": "c" * 64, "encoder_fingerprint": "f" * 64} | change
    message = rf"kb_v1: with content {meant['content_hash'][:12]} .* is gone \(there is kb_v1\); ingest those passages"
    with pytest.raises(KnowledgeBaseError, match=message):
        resolve(Pointer(str(base), "kb_v1", **meant))


@pytest.mark.parametrize("name", [BUILDING, REPAIRING])
def test_what_is_not_whole_cannot_be_opened(base, name):
    (base / "kb_v1" / MANIFEST).rename(base / "kb_v1" / name)
    for place in (base, base / "kb_v1", Pointer(str(base), "kb_v1", "c" * 64, "f" * 64)):
        with pytest.raises(KnowledgeBaseError, match="run ingest_passages again with the same passages: it resumes"):
            resolve(place)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(KnowledgeBaseError, match=re.escape(f"{tmp_path}: no knowledge base there")):
        resolve(tmp_path)


def test_a_base_of_an_earlier_layout_is_named(tmp_path):
    write_manifest(manifest(), tmp_path / MANIFEST)
    with pytest.raises(KnowledgeBaseError, match=r"was written by an earlier ragtune.*run ingest_passages again"):
        resolve(tmp_path)


def test_a_broken_pointer_is_named(tmp_path):
    (tmp_path / "knowledge_base.json").write_text("{")
    with pytest.raises(KnowledgeBaseError, match=r"knowledge_base.json: is no pointer"):
        resolve(tmp_path)


def test_a_pointer_goes_through_a_parameter_of_kfp_and_back(base, tmp_path):
    write_pointer(tmp_path / "pointer", base)
    assert from_text(as_text(tmp_path / "pointer")) == read_pointer(tmp_path / "pointer" / POINTER)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"path": "a"}'])
def test_what_is_no_pointer_is_told(text):
    with pytest.raises(KnowledgeBaseError, match="is no pointer to a knowledge base"):
        from_text(text)
