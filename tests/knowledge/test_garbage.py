import dataclasses
import fcntl
import json
import os
import shutil
from dataclasses import asdict

import pytest
from animals import WordEncoder, animal_texts, write_passages

from ragtune.__main__ import main
from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.knowledge import rows
from ragtune.knowledge.garbage import Search
from ragtune.knowledge.ingestion import only_one
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.pointers import pointer_to, resolve, write_pointer
from ragtune.locks import IN_USE, locked

YEAR_AGO = 1.7e9

pytestmark = pytest.mark.usefixtures("own_temporary_folder")


@pytest.fixture
def workspace(tmp_path, folder, encoder):
    """A knowledge base that serves kb_v2, of 20 passages; nothing refers to kb_v1."""
    root = tmp_path / "workspace" / "knowledge_bases" / "passages"
    shutil.copytree(folder, root)
    ingest_passages(write_passages(tmp_path / "few.parquet", animal_texts(20)), root, encoder)
    return tmp_path / "workspace"


@pytest.fixture
def root(workspace):
    return workspace / "knowledge_bases" / "passages"


def garbage(workspace, **options):
    """kind → names of what was found"""
    found = {}
    for item in Search(workspace, **options).run().garbage:
        found.setdefault(item.kind, []).append(item.place.rpartition("/")[2])
    return found


def delete(workspace, **options):
    for item in Search(workspace, **options).run().garbage:
        item.remove()


def age(folder):
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (YEAR_AGO, YEAR_AGO), follow_symlinks=False)


def test_a_version_that_nothing_refers_to_is_found_and_removed(workspace, root, encoder):
    (root / "leases" / "kb_v1").mkdir(parents=True)
    assert garbage(workspace) == {"version": ["kb_v1"]}
    assert (root / "kb_v1").exists()
    delete(workspace)
    assert not (root / "kb_v1").exists() and not (root / "leases" / "kb_v1").exists()
    assert garbage(workspace) == {}
    with KnowledgeBase.open(root, encoder_fingerprint=encoder.fingerprint) as base:
        assert base.manifest.rows == 20


def test_a_pointer_keeps_its_version(workspace, root, tmp_path):
    write_pointer(tmp_path / "run", root / "kb_v1")
    assert garbage(workspace, keep_days=0) == {}
    (tmp_path / "run" / "knowledge_base.json").unlink()
    assert garbage(workspace) == {}
    assert garbage(workspace, keep_days=0) == {"version": ["kb_v1"]}


def test_a_pointer_keeps_its_version_wherever_the_workspace_is_mounted(workspace, root, tmp_path):
    write_pointer(tmp_path / "run", root / "kb_v1")
    mounted = workspace.rename(tmp_path / "mounted")
    assert garbage(mounted, keep_days=0, keep=[tmp_path / "run"]) == {}
    assert garbage(mounted, keep_days=0) == {}  # its lease names a file that is seen from here


def test_a_pointer_keeps_the_version_that_it_would_open(workspace, root, tmp_path):
    pointer = dataclasses.replace(pointer_to(*resolve(root / "kb_v1")), version="kb_v7")
    assert resolve(pointer)[0] == root / "kb_v1"
    shutil.rmtree(root / "leases")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "knowledge_base.json").write_text(json.dumps(asdict(pointer)))
    assert garbage(workspace, keep=[tmp_path / "run"]) == {}
    (tmp_path / "run" / "knowledge_base.json").write_text(json.dumps(asdict(pointer) | {"content_hash": "0" * 64}))
    assert garbage(workspace, keep=[tmp_path / "run"]) == {"version": ["kb_v1"]}


def test_opening_through_a_pointer_renews(workspace, root):
    pointer = pointer_to(*resolve(root / "kb_v1"))
    for _ in range(2):
        KnowledgeBase.open(pointer).close()
        assert garbage(workspace) == {}
        age(root / "leases")
        assert garbage(workspace) == {"version": ["kb_v1"]}


@pytest.mark.parametrize("place", ["workspace/models/mine/1", "runs/1/model"])
def test_a_model_keeps_its_version(workspace, root, tmp_path, place):
    lineage = {"knowledge_base": asdict(pointer_to(*resolve(root / "kb_v1")))}
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "ragtune.json").write_text(json.dumps({"lineage": lineage}))
    assert garbage(workspace, keep=[tmp_path / "runs"]) == {}


def test_a_reader_keeps_its_version(workspace, root):
    with KnowledgeBase.open(root / "kb_v1"):
        assert garbage(workspace, keep_days=0) == {}


def test_a_version_that_is_taken_between_listing_and_removal_stays(workspace, root, encoder):
    (item,) = Search(workspace).run().garbage
    with KnowledgeBase.open(root / "kb_v1") as base:
        with pytest.raises(KnowledgeBaseError, match="is needed again, by process"):
            item.remove()
        assert base.search(encoder.encode(["an otter"]), 1).mask.all()
    with KnowledgeBase.open(root / "kb_v1") as base:
        assert base.manifest.rows == 300


def test_a_version_that_is_served_between_listing_and_removal_stays(workspace, root, corpus, encoder):
    (item,) = Search(workspace).run().garbage
    assert ingest_passages(corpus, root, encoder).version == "kb_v1"
    with pytest.raises(KnowledgeBaseError, match=r"kb_v1: is needed again \(served\)"):
        item.remove()
    with KnowledgeBase.open(root) as base:
        assert base.manifest.rows == 300


def test_an_ingestion_that_is_resumed_between_listing_and_removal_stays(workspace, root):
    shutil.copytree(root / "kb_v1", root / "kb_v3")
    (root / "kb_v3" / "manifest.json").rename(root / "kb_v3" / "building.json")
    age(root / "kb_v3")
    item = next(item for item in Search(workspace).run().garbage if item.place.endswith("kb_v3"))
    (root / "kb_v3" / "passages.arrow").touch()
    with pytest.raises(KnowledgeBaseError, match="can be resumed"):
        item.remove()
    assert (root / "kb_v3" / "building.json").exists()


def test_embeddings_of_an_encoder_without_a_version_go_with_the_last_one(workspace, root, tmp_path):
    other = WordEncoder(seed=1)
    ingest_passages(tmp_path / "few.parquet", root, other)
    ingest_passages(tmp_path / "few.parquet", root, WordEncoder())
    assert garbage(workspace)["version"] == ["kb_v3", "kb_v1"]
    (name,) = garbage(workspace)["embeddings"]
    assert name.startswith(other.fingerprint[:32])
    delete(workspace)
    assert [path.name[:32] for path in (root / "embeddings").iterdir()] == [WordEncoder().fingerprint[:32]]


def test_what_is_unfinished_can_be_resumed_for_a_while(workspace, root, tmp_path, corpus, monkeypatch):
    def fail(*args):
        raise KnowledgeBaseError("the probe failed")

    monkeypatch.setattr(rows, "build_index", fail)
    with pytest.raises(KnowledgeBaseError):
        ingest_passages(corpus, root, WordEncoder(seed=1))
    assert garbage(workspace) == {"version": ["kb_v1"]}
    assert "kb_v3" in garbage(workspace, keep_days=0)["version"]


def test_work_folders_that_were_not_resumed_are_found(workspace):
    for name in ("old", "new", "locked"):
        (workspace / "training" / name / "rag").mkdir(parents=True)
    age(workspace / "training")
    (workspace / "training" / "new" / "rag" / "checkpoint").touch()
    (workspace / "training" / ".locked.lock").touch()
    with open(workspace / "training" / ".locked.lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert garbage(workspace)["work folder"] == ["old"]
    delete(workspace)
    assert (workspace / "training" / "new").exists() and not (workspace / "training" / "old").exists()


def test_a_work_folder_that_is_resumed_between_listing_and_removal_stays(workspace):
    folder = workspace / "training" / "mine"
    folder.mkdir(parents=True)
    age(folder)
    (item,) = (item for item in Search(workspace).run().garbage if item.kind == "work folder")
    with locked(folder.with_name(".mine.lock")), pytest.raises(StorageError, match="held by another process"):
        item.remove()
    (folder / "rag").mkdir()
    with pytest.raises(KnowledgeBaseError, match="was resumed meanwhile"):
        item.remove()
    assert folder.exists()


def test_a_temporary_folder_that_is_used_again_stays(workspace, tmp_path):
    folder = tmp_path / "tmp" / "ragtune-x"
    folder.mkdir()
    age(folder)
    (item,) = (item for item in Search(workspace).run().garbage if item.kind == "temporary folder")
    with locked(folder / IN_USE):
        age(folder)
        with pytest.raises(KnowledgeBaseError, match="is in use"):
            item.remove()
    assert folder.exists()


def test_temporary_folders_of_killed_processes_are_found(workspace, root, tmp_path):
    (tmp_path / "tmp" / "ragtune-x").mkdir()
    age(tmp_path / "tmp" / "ragtune-x")
    for name in (".features.parquet.abcd1234", ".served.json.zzzzzzzz"):
        (root / name).mkdir()
        (root / name / "half").touch()
    age(root / ".features.parquet.abcd1234")
    assert garbage(workspace)["temporary folder"] == [".features.parquet.abcd1234", "ragtune-x"]


def test_an_earlier_layout_goes_once_something_is_served(workspace, root):
    (root / "milvus.db").mkdir()
    (root / "registry.db").touch()
    assert sorted(garbage(workspace)["earlier layout"]) == ["milvus.db", "registry.db"]


def test_the_knowledge_base_of_one_run_is_not_kept_by_being_served(workspace, root, tmp_path):
    own = shutil.copytree(root, root.with_name("passages-0123456789abcdef"))
    shutil.rmtree(own / "kb_v1")
    assert garbage(workspace) == {"version": ["kb_v1"]}
    age(own)
    assert sorted(garbage(workspace)["version"]) == ["kb_v1", "kb_v2"]
    write_pointer(tmp_path / "run", own)
    assert garbage(workspace) == {"version": ["kb_v1"]}


def test_a_base_that_is_ingested_into_is_left_alone(workspace, root):
    with only_one(root):
        found = Search(workspace).run()
    assert found.garbage == [] and "is ingesting into it" in found.warnings[0]


def test_a_workspace_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StorageError, match="nowhere: no such folder"):
        Search(tmp_path / "nowhere").run()


def test_the_command_removes_nothing_unless_it_is_told_to(workspace, root, capsys):
    assert main(["gc", str(workspace)]) == 0
    listed = capsys.readouterr().out
    assert f"{root}/kb_v1: nothing refers to it" in listed and f"{root}/kb_v2: served" in listed
    assert "nothing was removed; --delete does" in listed and (root / "kb_v1").exists()
    assert main(["gc", str(workspace), "--delete"]) == 0
    assert "1 that nothing refers to; removed" in capsys.readouterr().out
    assert not (root / "kb_v1").exists() and (root / "kb_v2").exists()
