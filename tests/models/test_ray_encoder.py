"""A Ray of this machine's own, with one actor, and its parts without Ray."""

import os
import socket
import sys

import numpy as np
import pyarrow as pa
import pytest
from tiny_models import save_tiny_parts

from ragtune import ray_cluster
from ragtune.errors import ClusterError, KnowledgeBaseError, ModelError
from ragtune.knowledge.embedding import EmbeddingCache, embed_missing
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.workspace import ingest_into_workspace
from ragtune.models.encoders import Encoder
from ragtune.models.ray_embedding import Embedding
from ragtune.models.ray_encoder import Actors, _ray_errors, encoder_on
from ragtune.ray_cluster import ADDRESS_VARIABLE

TEXTS = [f"otter number{row} swims " + "far " * (row % 7) for row in range(600)]


@pytest.fixture(scope="module")
def passages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("passages")
    Passages(pa.table({"id": [f"p{row}" for row in range(len(TEXTS))], "text": TEXTS})).save(folder / "passages.arrow")
    return Passages.open(folder / "passages.arrow")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    _, place, _ = save_tiny_parts(tmp_path_factory.mktemp("models"), TEXTS)
    return Encoder.from_pretrained(place, role="passage")


@pytest.fixture
def no_cluster(monkeypatch):
    """No RAY_ADDRESS; what a Ray of one's own puts into the environment is taken out again."""
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    for name in ray_cluster.own_ray(""):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.mark.slow
def test_ray_embeds_what_a_killed_ingestion_lacks_and_the_knowledge_base_is_the_same(
    passages, encoder, tmp_path, no_cluster, monkeypatch
):
    half = Passages(passages.table.slice(0, 300))
    kept = EmbeddingCache(
        tmp_path / "knowledge_bases/passages/embeddings", encoder.fingerprint, encoder.dimension, encoder.precision
    )
    assert embed_missing(half, encoder, kept) == 300
    monkeypatch.setattr("joblib.cpu_count", lambda: 1)
    with encoder_on("ray", encoder) as remote:
        assert (remote.actors, remote.precision) == (Actors(1, 1, 0), encoder.precision)
        counts = ingest_into_workspace(passages.place, tmp_path / "pointer", remote, tmp_path)
    assert (counts["embedded"], counts["rows"]) == (300, 600)
    with KnowledgeBase.open(tmp_path / "pointer", encoder_fingerprint=encoder.fingerprint) as base:
        assert base.manifest.content_hash == passages.content_hash
        vectors = np.load(base.folder / "vectors.npy")
    # Which texts share a batch decides the order of sums: a few units in the last place of the precision.
    unit = 2**-7 if encoder.precision == "bfloat16" else 2**-22
    expected = encoder.encode_passages(list(passages))
    assert np.abs(vectors - expected).max() <= 4 * unit * np.abs(expected).max()
    assert np.linalg.matrix_rank(expected[300:]) > 1  # they differ, so that rows in another order would be seen


@pytest.mark.parametrize(
    ("nodes", "actors"),
    [
        ([{"CPU": 2, "memory": 1e9}], Actors(1, 2, 0)),
        ([{"CPU": 16}, {"CPU": 9}, {"memory": 1e9}], Actors(6, 4, 0)),
        ([{"CPU": 8}, {"CPU": 16, "GPU": 8}, {"GPU": 2}], Actors(10, 0, 1)),
    ],
)
def test_the_actors_are_as_many_as_there_are_gpus_or_processors(nodes, actors):
    assert Actors.that_fit(nodes) == actors


def test_a_cluster_without_any_processor_is_an_error():
    with pytest.raises(ClusterError, match="neither GPUs nor CPUs"):
        Actors.that_fit([{"memory": 1e9}])


def test_an_actor_gives_the_vectors_of_its_rows(passages, encoder):
    (block,) = Embedding.blocks(np.array([5, 2, 9]), passages.content_hashes, on_gpu=False)
    made = actor(passages.place, encoder)({name: [value] for name, value in block.items()})
    assert made["row"].tolist() == [2, 5, 9]
    assert np.allclose(made["vector"], encoder.encode_passages([passages[2], passages[5], passages[9]]), atol=1e-6)


def test_blocks_cover_all_rows_once():
    rows = np.random.default_rng(0).permutation(600)
    blocks = Embedding.blocks(rows, np.zeros(600, "S16"), on_gpu=False)
    assert sorted(np.concatenate([block["rows"] for block in blocks]).tolist()) == list(range(600))
    assert max(len(block["rows"]) for block in blocks) == 256


def test_an_actor_that_sees_no_or_other_passages_says_so(passages, encoder, tmp_path):
    blocks = Embedding.blocks(np.arange(3), passages.content_hashes, on_gpu=False)
    batch = {name: [value] for name, value in blocks[0].items()}
    with pytest.raises(KnowledgeBaseError, match="mount the workspace on them at the same path"):
        actor(tmp_path / "none.arrow", encoder)(batch)
    for rows in (slice(1, 4), slice(0, 1)):
        other = tmp_path / "other.arrow"
        Passages(passages.table.slice(rows.start, rows.stop - rows.start)).save(other)
        with pytest.raises(KnowledgeBaseError, match="do not see the passages that were written there"):
            actor(other, encoder)(batch)


def test_an_actor_with_another_encoder_refuses(passages, encoder):
    blocks = Embedding.blocks(np.arange(3), passages.content_hashes, on_gpu=False)
    batch = {name: [value] for name, value in blocks[0].items()}
    with pytest.raises(KnowledgeBaseError, match="is another encoder on the Ray cluster's machines"):
        Embedding(encoder.name, "0" * 64, "float32", passages.place)(batch)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("UserCodeException\nragtune.errors.StorageError: a\nragtune.errors.ModelError: b: no\nx", ModelError, "b: no"),
        ("The node died\nowner gone", ClusterError, r"\(RaySystemError: owner gone\); run again: what was embedded"),
    ],
)
def test_rays_errors_are_ours(text, kind, message):
    import ray  # not before the first test: Ray reads its environment when it is imported

    with pytest.raises(kind, match=message), _ray_errors():
        raise ray.exceptions.RaySystemError(text)


def test_ray_that_is_not_installed_or_not_there_is_named(encoder, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setattr(ray_cluster, "_ANSWER_WITHIN_SECONDS", 0.1)
    for told in (address, f"ray://{address}", "ray://a:b:c"):
        monkeypatch.setenv(ADDRESS_VARIABLE, told)
        with pytest.raises(ClusterError, match=f"RAY_ADDRESS={told}: .*It is ray://HOST:10001"):
            encoder_on("ray", encoder).__enter__()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(KnowledgeBaseError, match=r"pip install 'ragtune\[ray\]', or set embed_on=here"):
        encoder_on("ray", encoder).__enter__()


def actor(path, encoder):
    return Embedding(encoder.name, encoder.fingerprint, encoder.precision, str(path))
