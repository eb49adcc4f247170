"""Rows in Milvus Lite: those that are missing are written, and nothing else is taken for whole."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import rows as module
from ragtune.knowledge.embedding import EmbeddingCache
from ragtune.knowledge.feature_repo import batched_store, open_feature_store, registered_view
from ragtune.knowledge.manifest import MANIFEST, PASSAGES, read_manifest
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.rows import Rows


@pytest.fixture
def rows(version):
    """Of the version's own passages, which Milvus holds."""
    manifest = read_manifest(version / MANIFEST)
    store = open_feature_store(version, "")
    vectors_of = (manifest.encoder_fingerprint, manifest.dimension, manifest.precision)
    cache = EmbeddingCache(version.parent / "embeddings", *vectors_of)
    passages = Passages.open(version / PASSAGES)
    yield Rows(store, registered_view(store, "kb_v1"), version, passages, cache, None, manifest.created, 100)
    batched_store(store).disconnect()


def test_what_milvus_holds_is_not_written_again_and_what_it_lacks_is(rows):
    assert rows.write_missing() == 0
    batched_store(rows.store).drop(rows.store.config, rows.view)
    assert rows.write_missing() == len(rows.passages)
    assert batched_store(rows.store).count(rows.store.config, rows.view) == len(rows.passages)


def test_more_or_fewer_rows_than_passages_get_no_index(rows):
    fewer = replace(rows, passages=rows.passages.take(np.arange(10)))
    with pytest.raises(KnowledgeBaseError, match=r"Milvus holds 300 rows of kb_v1 after 10 were written"):
        fewer.index(np.zeros((10, 32), np.float32))


def test_rows_of_other_passages_are_written_anew(rows):
    fewer = replace(rows, passages=rows.passages.take(np.arange(10)))
    assert fewer.write_missing() == 10
    assert batched_store(rows.store).count(rows.store.config, rows.view) == 10


def test_a_call_holds_no_more_bytes_than_a_message_may(rows, monkeypatch):
    monkeypatch.setattr(module, "_BYTES_PER_CALL", 100)
    columns = {"id": list("abcd"), "title": [""] * 4, "text": ["x" * 60, "x" * 60, "x" * 10, "x" * 500]}
    long = replace(rows, passages=Passages(pa.table(columns)), chunk_rows=3)
    sizes = long.passages.text_sizes
    chunks = [chunk.tolist() for chunk in long._chunks(np.arange(4))]
    assert sorted(row for chunk in chunks for row in chunk) == [0, 1, 2, 3] and max(map(len, chunks)) <= 3
    assert all(len(chunk) == 1 or sizes[chunk].sum() < 200 for chunk in chunks)
    assert len(chunks) > 2
