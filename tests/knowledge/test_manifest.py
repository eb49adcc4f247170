import json

import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.manifest import (
    MANIFEST,
    Manifest,
    read_manifest,
    read_served,
    serve,
    version_folders,
    whole_versions,
    write_manifest,
)


def manifest(**changes):
    values = {
        "version": "kb_v1",
        "name": "passages",
        "encoder": "words",
        "encoder_fingerprint": "f" * 64,
        "dimension": 8,
        "precision": "float32",
        "metric": "IP",
        "index": "HNSW",
        "rows": 3,
        "content_hash": "c" * 64,
        "created": "2026-01-01T00:00:00+00:00",
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


def test_the_served_version_is_the_one_that_was_written_last(tmp_path):
    assert read_served(tmp_path) == ""
    for version in ("kb_v1", "kb_v2"):
        serve(tmp_path, version)
        assert read_served(tmp_path) == version
    assert [path.name for path in tmp_path.iterdir()] == ["served.json"]


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"name": "kb_v1"})])
def test_a_broken_note_of_the_served_version_is_named(tmp_path, text):
    (tmp_path / "served.json").write_text(text)
    with pytest.raises(KnowledgeBaseError, match=r"served.json: does not say which version is served"):
        read_served(tmp_path)


def test_versions_are_told_from_other_folders_and_counted_as_numbers(tmp_path):
    for name in ("kb_v9", "kb_v10", "kb_v", "kb_vx", "embeddings", ".kb_v3.abc"):
        (tmp_path / name).mkdir()
    write_manifest(manifest(version="kb_v9"), tmp_path / "kb_v9" / MANIFEST)
    assert [path.name for path in version_folders(tmp_path)] == ["kb_v10", "kb_v9"]
    assert whole_versions(tmp_path) == {tmp_path / "kb_v9": manifest(version="kb_v9")}
