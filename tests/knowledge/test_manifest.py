import json

import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.manifest import MANIFEST, Manifest, read_manifest, resolve, write_manifest, write_pointer


def manifest(**changes):
    values = {
        "version": "kb_v1",
        "name": "passages",
        "encoder": "words",
        "encoder_fingerprint": "f" * 64,
        "dimension": 8,
        "metric": "IP",
        "index": "HNSW",
        "rows": 3,
        "content_hash": "c" * 64,
        "passages": "kb_v1/passages.arrow",
        "created": "2026-01-01T00:00:00+00:00",
        "whole": True,
    }
    return Manifest(**{**values, **changes})


def test_what_is_written_is_read_back(tmp_path):
    write_manifest(manifest(), tmp_path / MANIFEST)
    assert read_manifest(tmp_path / MANIFEST) == manifest()


def test_nothing_there_is_no_manifest_but_something_else_is_an_error(tmp_path):
    assert read_manifest(tmp_path / MANIFEST) is None
    (tmp_path / MANIFEST).write_text('{"version": "kb_v1"}')
    with pytest.raises(KnowledgeBaseError, match=r"manifest.json: is no manifest of a knowledge base"):
        read_manifest(tmp_path / MANIFEST)


def test_a_pointer_leads_to_the_knowledge_base(tmp_path):
    write_manifest(manifest(), tmp_path / "base" / MANIFEST)
    write_pointer(tmp_path / "artifact", tmp_path / "base")
    assert resolve(tmp_path / "artifact") == (tmp_path / "base", manifest())
    pointer = json.loads((tmp_path / "artifact" / "knowledge_base.json").read_text())
    assert pointer == {"path": str(tmp_path / "base"), "version": "kb_v1", "content_hash": "c" * 64}


@pytest.mark.parametrize("change", [{"version": "kb_v2"}, {"content_hash": "d" * 64}])
def test_a_pointer_to_what_has_moved_on_says_so(tmp_path, change):
    write_manifest(manifest(), tmp_path / "base" / MANIFEST)
    write_pointer(tmp_path / "artifact", tmp_path / "base")
    write_manifest(manifest(**change), tmp_path / "base" / MANIFEST)
    with pytest.raises(KnowledgeBaseError, match="has moved on to kb_v"):
        resolve(tmp_path / "artifact")


def test_what_is_not_whole_cannot_be_opened_or_pointed_at(tmp_path):
    write_manifest(manifest(whole=False), tmp_path / MANIFEST)
    for action in (lambda: resolve(tmp_path), lambda: write_pointer(tmp_path / "artifact", tmp_path)):
        with pytest.raises(KnowledgeBaseError, match="run ingest_passages again"):
            action()


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(KnowledgeBaseError, match=rf"{tmp_path}: no knowledge base there"):
        resolve(tmp_path)


def test_a_broken_pointer_is_named(tmp_path):
    (tmp_path / "knowledge_base.json").write_text("{")
    with pytest.raises(KnowledgeBaseError, match=r"knowledge_base.json: is no pointer"):
        resolve(tmp_path)
