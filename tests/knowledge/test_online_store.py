import numpy as np
import pytest
from animals import exact_rows

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.feature_repo import batched_store, open_feature_store, passages_view
from ragtune.knowledge.passages import Passages

QUESTIONS = ["the otter of the forest", "lynx eats roots", "number 42", "moth harbour moss", "the heron"]


@pytest.fixture
def opened(version):
    store = open_feature_store(version)
    online = batched_store(store)
    yield store, online
    online.disconnect()


def test_ids_scores_and_embeddings_belong_together_best_first(opened, corpus, encoder):
    store, online = opened
    passages, queries = Passages.open(corpus), encoder.encode(QUESTIONS)
    ids, scores, embeddings = online.search_batch(store.config, passages_view("kb_v1", 32), queries, 10)
    assert ids.tolist() == [[passages.ids[row] for row in rows] for rows in exact_rows(encoder, passages, queries, 10)]
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(np.einsum("bd,bkd->bk", queries, embeddings), scores, atol=1e-6)


def test_the_embeddings_are_the_documents_own_bit_by_bit(opened, corpus, encoder):
    store, online = opened
    passages = Passages.open(corpus)
    ids, _, embeddings = online.search_batch(store.config, passages_view("kb_v1", 32), encoder.encode(QUESTIONS), 3)
    written = encoder.encode_passages([passages[passages.row_of(identifier)] for identifier in ids.ravel()])
    assert embeddings.dtype == np.float32
    assert np.array_equal(embeddings.reshape(-1, 32), written)


def test_one_query_and_many_give_the_same(opened, encoder):
    store, online = opened
    view, queries = passages_view("kb_v1", 32), encoder.encode(QUESTIONS)
    together = online.search_batch(store.config, view, queries, 4)
    alone = [online.search_batch(store.config, view, queries[row : row + 1], 4) for row in range(len(queries))]
    ids, scores, embeddings = (np.concatenate(parts) for parts in zip(*alone, strict=True))
    assert np.array_equal(together[0], ids)
    np.testing.assert_allclose(together[1], scores, rtol=1e-6)  # FLAT's matrix product rounds by its shape
    assert np.array_equal(together[2], embeddings)


def test_no_query_gives_an_empty_answer(opened):
    store, online = opened
    ids, scores, embeddings = online.search_batch(store.config, passages_view("kb_v1", 32), np.zeros((0, 32)), 4)
    assert (ids.shape, scores.shape, embeddings.shape) == ((0, 4), (0, 4), (0, 4, 32))


def test_more_than_there_is_gives_padding(opened, encoder):
    store, online = opened
    view = passages_view("kb_v1", 32)
    ids, scores, embeddings = online.search_batch(store.config, view, encoder.encode(QUESTIONS[:1]), 302)
    assert (ids[0] != "").sum() == 300
    assert ids[0, 300:].tolist() == ["", ""]
    assert np.isneginf(scores[0, 300:]).all()
    assert not embeddings[0, 300:].any()


@pytest.mark.parametrize(
    ("shape", "k", "message"),
    [
        ((2, 31), 4, r"kb_v1: holds vectors of 32 dimensions, the queries have shape \(2, 31\)"),
        ((32,), 4, r"the queries have shape \(32,\)"),
        ((2, 32), 0, "k = 0: must be from 1 to 16384"),
        ((2, 32), 16_385, "k = 16385: must be from 1 to 16384"),
    ],
)
def test_what_cannot_be_searched_is_named(opened, shape, k, message):
    store, online = opened
    with pytest.raises(KnowledgeBaseError, match=message):
        online.search_batch(store.config, passages_view("kb_v1", 32), np.zeros(shape, np.float32), k)


def test_views_of_two_dimensions_live_in_one_store(opened):
    store, online = opened
    for name, dimension in (("kb_v1", 32), ("kb_v2", 16)):
        queries = np.ones((1, dimension), np.float32)
        found = online.search_batch(store.config, passages_view(name, dimension), queries, 2)
        assert found[2].shape == (1, 2, dimension)


def test_counting_what_is_not_there_makes_nothing(opened):
    store, online = opened
    assert online.count(store.config, passages_view("kb_v7", 32)) == -1
    assert online.client.list_collections() == ["passages_kb_v1"]
