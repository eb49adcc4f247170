from dataclasses import replace

import pytest
from animals import WordEncoder

from ragtune.knowledge.feature_repo import FEATURE_STORE, milvus_uri_of
from ragtune.knowledge.manifest import MANIFEST, read_manifest
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.wanted import Wanted


@pytest.fixture
def wanted(folder, corpus):
    """What `folder` was made of."""
    passages, encoder = Passages.open(corpus), WordEncoder()
    return Wanted(folder, passages, encoder, "base", "auto", "", "", "", 1000)


@pytest.fixture
def made(version):
    return read_manifest(version / MANIFEST)


def test_a_version_of_the_same_passages_encoder_and_choices_is_one_of_it(wanted, version, made):
    wanted = replace(wanted, name=made.name)
    assert wanted.is_in(version, made)
    assert not wanted.is_in(version, None)
    assert wanted.is_in(version, replace(made, created="another time", built_index="HNSW", version="kb_v9"))


@pytest.mark.parametrize(
    "change",
    [{"name": "another"}, {"index": "FLAT"}, {"encoder": WordEncoder(seed=1)}, {"uri": "http://milvus:19530"}],
    ids=lambda change: next(iter(change)),
)
def test_another_choice_is_another_version(wanted, version, made, change):
    assert not replace(wanted, **{"name": made.name} | change).is_in(version, made)


def test_other_passages_are_another_version(wanted, version, made):
    fewer = replace(wanted, name=made.name, passages=Passages(wanted.passages.table.slice(1)))
    assert not fewer.is_in(version, made)


def test_a_versions_choices_can_be_taken_over(wanted, version, made):
    asked = replace(wanted, name="another", index="FLAT", uri="http://milvus:19530")
    taken = asked.as_in(version, made)
    assert (taken.name, taken.index, taken.uri) == (made.name, made.index, milvus_uri_of(version))
    (version / FEATURE_STORE).unlink()
    assert asked.as_in(version, made).uri == "http://milvus:19530"


def test_vectors_of_another_precision_are_in_another_cache(wanted, made, tmp_path):
    assert wanted.cache(made).folder != wanted.cache(replace(made, precision="bfloat16")).folder
    assert wanted.folder / "embeddings" in wanted.cache(made).folder.parents
    elsewhere = replace(wanted, embedding_cache=tmp_path / "cache")
    assert tmp_path / "cache" in elsewhere.cache(made).folder.parents
