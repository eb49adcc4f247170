import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from animals import animal_texts, write_passages
from feast import FeatureStore

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import offline_source
from ragtune.knowledge.feature_repo import check_choices, open_feature_store, passages_view, write_feature_repo
from ragtune.knowledge.index import FLAT, GRAPH
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.online_store import BatchedMilvusOnlineStoreConfig


def test_dimension_and_metric_stand_on_the_field():
    embedding = next(field for field in passages_view("kb_v1", 384).schema if field.name == "embedding")
    assert (embedding.vector_index, embedding.vector_length, embedding.vector_search_metric) == (True, 384, "IP")


def test_feast_reads_the_folder_of_a_version(version):
    store = FeatureStore(repo_path=str(version))
    assert store.project == "passages"
    assert isinstance(store.config.online_store, BatchedMilvusOnlineStoreConfig)
    assert store.get_feature_view("kb_v1") == passages_view("kb_v1", 32)
    assert [entity.join_key for entity in store.list_entities()] == ["id"]


@pytest.mark.slow
def test_the_feast_command_line_lists_the_view(version):
    feast = Path(sys.executable).with_name("feast")
    listed = subprocess.run([feast, "-c", version, "feature-views", "list"], capture_output=True, text=True, check=True)
    assert "kb_v1" in listed.stdout


def test_the_offline_source_holds_every_feature(version):
    store = FeatureStore(repo_path=str(version))
    source = store.get_feature_view("kb_v1").batch_source
    frame = (
        store._get_provider()
        .offline_store.pull_all_from_table_or_query(
            config=store.config,
            data_source=source,
            join_key_columns=["id"],
            feature_name_columns=["title", "text", "content_hash", "embedding"],
            timestamp_field="event_timestamp",
        )
        .to_df()
    )
    assert len(frame) == 300
    assert frame["embedding"].map(len).eq(32).all()


def test_feast_reads_parts_that_are_linked_from_an_earlier_version(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(offline_source, "_ROWS_PER_PART", 32)
    texts = animal_texts(300)
    ingest_passages(write_passages(tmp_path / "one.parquet", texts), tmp_path / "base", encoder, index="FLAT")
    texts |= {"w150": "a fox"}
    ingest_passages(write_passages(tmp_path / "two.parquet", texts), tmp_path / "base", encoder, index="FLAT")
    links = [path.stat().st_nlink for path in (tmp_path / "base/kb_v2/features.parquet").iterdir()]
    assert len(links) > 4 and sum(count == 1 for count in links) <= 2
    asked = pd.DataFrame({"id": ["w7", "w150"], "event_timestamp": pd.Timestamp.now("UTC")})
    features = ["kb_v2:text", "kb_v2:embedding"]
    store = FeatureStore(repo_path=str(tmp_path / "base" / "kb_v2"))
    frame = store.get_historical_features(asked, features).to_df().set_index("id")
    assert frame["text"].to_dict() == {"w7": texts["w7"], "w150": "a fox"}
    expected = encoder.encode([f"animals {texts['w7']}", "animals a fox"])
    assert np.array_equal(np.stack(frame.loc[["w7", "w150"], "embedding"]), expected)


def test_paths_are_relative_so_that_the_folder_can_be_moved(tmp_path):
    write_feature_repo(tmp_path, "passages", "", GRAPH)
    assert str(tmp_path) not in (tmp_path / "feature_store.yaml").read_text()


def test_a_server_is_named_and_its_token_is_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGTUNE_MILVUS_TOKEN", "root:secret")
    write_feature_repo(tmp_path, "passages", "http://127.0.0.1:19530", FLAT)
    online = yaml.safe_load((tmp_path / "feature_store.yaml").read_text())["online_store"]
    assert (online["uri"], online["token"]) == ("http://127.0.0.1:19530", "${RAGTUNE_MILVUS_TOKEN}")
    assert open_feature_store(tmp_path).config.online_store.token == "root:secret"


def test_an_unset_token_is_no_token(tmp_path, monkeypatch):
    monkeypatch.delenv("RAGTUNE_MILVUS_TOKEN", raising=False)
    write_feature_repo(tmp_path, "passages", "http://127.0.0.1:19530", GRAPH)
    assert open_feature_store(tmp_path).config.online_store.token is None


@pytest.mark.parametrize(
    ("name", "uri", "index", "message"),
    [
        ("my passages", "", "HNSW", 'name "my passages": only letters, digits and _'),
        ("passages", "", "DISKANN", 'index "DISKANN": choose one of auto, HNSW, FLAT'),
        ("passages", "http://root:secret@127.0.0.1:19530", "HNSW", "RAGTUNE_MILVUS_TOKEN as user:password"),
        ("passages", "http://root:sec/ret@127.0.0.1:19530", "HNSW", "RAGTUNE_MILVUS_TOKEN as user:password"),
        ("passages", "127.0.0.1:19530", "HNSW", "127.0.0.1:19530: is no URI of a Milvus server"),
    ],
)
def test_what_is_not_possible_is_refused(name, uri, index, message):
    with pytest.raises(KnowledgeBaseError, match=message) as refused:
        check_choices(name, uri, index)
    assert "secret" not in str(refused.value)


def test_what_is_there_stays(tmp_path):
    write_feature_repo(tmp_path, "passages", "http://127.0.0.1:19530", GRAPH)
    before = (tmp_path / "feature_store.yaml").read_bytes()
    write_feature_repo(tmp_path, "passages", "http://127.0.0.1:19530", GRAPH)
    assert (tmp_path / "feature_store.yaml").read_bytes() == before


def test_on_a_server_every_version_has_a_project_of_its_own(tmp_path):
    for name in ("one", "two"):
        write_feature_repo(tmp_path / name, "passages", "http://127.0.0.1:19530", GRAPH)
    projects = {open_feature_store(tmp_path / name).project for name in ("one", "two")}
    assert len(projects) == 2 and all(project.startswith("passages_") for project in projects)


@pytest.mark.parametrize(("old", "new"), [("project: passages", "project: ["), ("index_type", "indextype")])
def test_a_broken_configuration_is_named_without_its_token(tmp_path, monkeypatch, old, new):
    monkeypatch.setenv("RAGTUNE_MILVUS_TOKEN", "root:secret")
    write_feature_repo(tmp_path, "passages", "http://127.0.0.1:19530", GRAPH)
    path = tmp_path / "feature_store.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(KnowledgeBaseError, match=r"feature_store.yaml: Feast cannot use it") as refused:
        open_feature_store(tmp_path)
    assert "secret" not in str(refused.value)
