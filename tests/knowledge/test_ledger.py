import shutil

import pytest
from animals import animal_texts, write_passages

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import ledger, milvus
from ragtune.knowledge.feature_repo import write_feature_repo
from ragtune.knowledge.garbage import Search
from ragtune.knowledge.index import first_index
from ragtune.knowledge.ingestion import remove_version
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(milvus, "CONNECT_SECONDS", 0.1)


def entered(folder, version="kb_v1"):
    """The collection of a version on a server, noted but not made."""
    write_feature_repo(folder / version, "animals", NOBODY, first_index("FLAT", 1, 2))
    ledger.enter(folder, folder / version)
    return ledger.collection_of(folder / version)


def test_a_collection_is_the_own_one_of_who_has_made_it_and_not_of_a_copy(tmp_path):
    collection = entered(tmp_path / "base")
    ledger.check_own(tmp_path / "base", collection)
    copy = shutil.copytree(tmp_path / "base", tmp_path / "copy")
    ledger.enter(copy, copy / "kb_v1")
    with pytest.raises(KnowledgeBaseError, match=rf"was made by {tmp_path}/base, and this folder may be a copy"):
        ledger.check_own(copy, collection)
    ledger.check_own(copy, entered(copy, "kb_v2"))
    with pytest.raises(KnowledgeBaseError, match="may be a copy"):
        ledger.check_own(copy, collection)
    ledger.check_own(tmp_path / "base", collection)


def test_a_copy_at_the_same_path_has_not_made_it_either(tmp_path):
    collection = entered(tmp_path / "base")
    (tmp_path / "base").rename(tmp_path / "snapshot")
    shutil.copytree(tmp_path / "snapshot", tmp_path / "base")
    with pytest.raises(KnowledgeBaseError, match="may be a copy"):
        ledger.check_own(tmp_path / "base", collection)


def test_nor_has_a_clone_with_equal_inodes_that_is_mounted_elsewhere(tmp_path):
    collection = entered(tmp_path / "base")
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(KnowledgeBaseError, match="may be a copy"):
        ledger.check_own(tmp_path / "elsewhere", collection)
    (tmp_path / "elsewhere").rename(tmp_path / "base")
    ledger.check_own(tmp_path / "base", collection)
    (tmp_path / "base" / "identity.json").unlink()  # as the README says of a clone at the same path
    with pytest.raises(KnowledgeBaseError, match="may be a copy"):
        ledger.check_own(tmp_path / "base", collection)


def test_a_version_whose_collection_was_made_elsewhere_stays(tmp_path):
    entered(tmp_path / "base")
    copy = shutil.copytree(tmp_path / "base", tmp_path / "copy")
    with pytest.raises(KnowledgeBaseError, match="may be a copy"):
        remove_version(copy / "kb_v1")
    assert (copy / "kb_v1").exists()


@pytest.mark.usefixtures("own_temporary_folder")
def test_an_ingestion_onto_a_server_that_is_gone_stops_no_other(tmp_path, corpus, encoder, impatient, caplog):
    root = tmp_path / "knowledge_bases" / "animals"
    with pytest.raises(KnowledgeBaseError, match="no Milvus answers there"):
        ingest_passages(corpus, root, encoder, uri=NOBODY)
    few = write_passages(tmp_path / "few.parquet", animal_texts(10))
    assert ingest_passages(few, root, encoder).version == "kb_v2"
    assert "no Milvus answers there" in caplog.text and not (root / "kb_v1").exists()
    found = Search(tmp_path).run()
    assert found.garbage == [] and "no Milvus answers there" in found.warnings[0]


@pytest.mark.usefixtures("own_temporary_folder")
def test_a_copied_workspace_leaves_the_collections_of_the_other_alone(tmp_path, encoder, lite_server, caplog):
    uri = lite_server(tmp_path / "milvus.db")
    root = tmp_path / "production" / "knowledge_bases" / "animals"
    for count in (20, 10):
        passages = write_passages(tmp_path / "passages.parquet", animal_texts(count))
        ingest_passages(passages, root, encoder, uri=uri, index="FLAT")
    (root / "kb_v1" / "manifest.json").rename(root / "kb_v1" / "building.json")
    copy = shutil.copytree(tmp_path / "production", tmp_path / "copy")
    begun = write_passages(tmp_path / "passages.parquet", animal_texts(20))
    resumed = ingest_passages(begun, copy / "knowledge_bases" / "animals", encoder, uri=uri, index="FLAT")
    assert resumed.version == "kb_v3" and "was made by" in caplog.text
    (item,) = (item for item in Search(copy).run().garbage if item.kind == "version")
    assert item.place.endswith("kb_v2")
    with pytest.raises(KnowledgeBaseError, match="may be a copy"):
        item.remove()
    assert "kb_v1 on" in Search(copy).run().warnings[0]
    (root / "kb_v1" / "building.json").rename(root / "kb_v1" / "manifest.json")
    for version, rows in (("kb_v1", 20), ("kb_v2", 10)):
        with KnowledgeBase.open(root / version) as base:
            assert base.search(encoder.encode(["an otter"]), rows).mask.all()
    (item,) = Search(tmp_path / "production", keep_days=0).run().garbage
    item.remove()
    client = milvus.connect_server(uri, "")
    assert len(client.list_collections()) == 2
    client.close()
