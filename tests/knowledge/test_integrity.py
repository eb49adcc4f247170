"""A version whose files or rows are not what was written, told from one that is whole."""

import shutil

import pytest

from ragtune.errors import UnavailableError
from ragtune.knowledge import integrity
from ragtune.knowledge.feature_repo import OFFLINE_SOURCE
from ragtune.knowledge.integrity import files_are_intact, rows_are_intact
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.manifest import EMBEDDED_DATABASE, MANIFEST, PASSAGES, REPAIRING, read_manifest


@pytest.fixture
def manifest(version):
    return read_manifest(version / MANIFEST)


def test_a_whole_version_is_intact(version, manifest):
    assert files_are_intact(version, manifest)
    assert rows_are_intact(version, manifest, "")


@pytest.mark.parametrize("name", [PASSAGES, OFFLINE_SOURCE, "vectors.npy"])
def test_a_file_with_other_bytes_is_noticed(version, manifest, name):
    path = next(path for path in [version / name, *sorted((version / name).rglob("*"))] if path.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not files_are_intact(version, manifest)


@pytest.mark.parametrize("name", [PASSAGES, OFFLINE_SOURCE, "vectors.npy"])
def test_a_file_that_is_gone_is_noticed(version, manifest, name):
    path = version / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not files_are_intact(version, manifest)


def test_a_file_that_cannot_be_read_now_is_no_damage(version, manifest, monkeypatch):
    def unreachable(*_):
        raise UnavailableError("the volume does not answer")

    monkeypatch.setattr(integrity, "read_vectors", unreachable)
    with pytest.raises(UnavailableError):
        files_are_intact(version, manifest)


def test_rows_are_not_intact_while_a_repair_is_under_way_or_without_the_database(version, manifest):
    (version / REPAIRING).write_text("")
    assert not rows_are_intact(version, manifest, "")
    (version / REPAIRING).unlink()
    with KnowledgeBase.open(version):  # another reader: it was asked for its rows when it opened it
        assert rows_are_intact(version, manifest, "")
    shutil.rmtree(version / EMBEDDED_DATABASE)
    assert not rows_are_intact(version, manifest, "")


def test_a_view_that_feast_does_not_know_is_noticed(version, manifest):
    (version / "registry.db").write_bytes(b"")
    assert not rows_are_intact(version, manifest, "")
