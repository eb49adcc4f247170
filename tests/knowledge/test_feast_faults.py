"""The faults of Feast 0.67, none of which ragtune inherits.

The first half of each pair fails when Feast has mended its fault: then what works around it may go.
"""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from animals import WordEncoder, animal_texts, write_passages
from feast import FeatureStore
from feast.rag_retriever import FeastIndex, FeastRAGRetriever
from pymilvus import MilvusException
from transformers import BartConfig, DPRConfig, RagConfig

from ragtune.knowledge.feature_repo import PASSAGE, passages_view
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages

FEATURES = [f"kb_v1:{name}" for name in ("id", "title", "text", "embedding")]
QUESTIONS = ["the otter of the forest", "lynx eats roots", "moth harbour moss"]
K = 20


@pytest.fixture(scope="module")
def encoder():
    return WordEncoder()


@pytest.fixture(scope="module")
def stock(tmp_path_factory, encoder):
    """Feast's own Milvus store with the same passages."""
    folder = tmp_path_factory.mktemp("stock")
    online = {"type": "milvus", "path": "milvus.db", "index_type": "FLAT", "metric_type": "IP", "embedding_dim": 32}
    config = {
        "project": "stock",
        "provider": "local",
        "registry": "registry.db",
        "online_store": {**online, "index_params": {}, "search_params": {}},
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    store = FeatureStore(repo_path=str(folder))
    store.apply([PASSAGE, passages_view("kb_v1", 32)])
    texts = animal_texts(300)
    frame = pd.DataFrame({"id": list(texts), "text": list(texts.values()), "title": [f"of {key}" for key in texts]})
    frame["content_hash"] = "unknown"
    frame["embedding"] = list(encoder.encode(list(texts.values())))
    frame["event_timestamp"] = pd.Timestamp.now("UTC")
    store.write_to_online_store("kb_v1", df=frame)
    return store


@pytest.fixture(scope="module")
def base(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("ours")
    ingest_passages(write_passages(folder / "passages.parquet", animal_texts(300)), folder / "base", encoder)
    with KnowledgeBase.open(folder / "base") as base:
        yield base


def ask_feast(stock, vector, **options):
    options = {"top_k": K, "distance_metric": "IP", **options}
    return stock.retrieve_online_documents_v2(features=FEATURES, query=vector.tolist(), **options).to_dict()


def feast_retriever(stock, **fields):
    return FeastRAGRetriever(
        question_encoder_tokenizer=None,
        question_encoder=torch.nn.Identity(),
        generator_tokenizer=None,
        generator_model=torch.nn.Identity(),
        feast_repo_path=str(stock.repo_path),
        feature_view=stock.get_feature_view("kb_v1"),
        features=FEATURES,
        search_type="vector",
        config=RagConfig.from_question_encoder_generator_configs(DPRConfig(), BartConfig()),
        index=FeastIndex(),
        **fields,
    )


def test_1_feast_gives_the_query_back_as_every_documents_embedding(stock, encoder):
    (query,) = encoder.encode(QUESTIONS[:1])
    returned = np.array(ask_feast(stock, query)["embedding"], np.float32)
    np.testing.assert_allclose(returned, np.tile(query, (K, 1)), atol=1e-6)


def test_1_here_the_embeddings_are_the_documents(base, encoder):
    found = base.search(encoder.encode(QUESTIONS[:1]), K)
    documents = encoder.encode_passages([base.passages[row] for row in found.rows[0]])
    assert np.array_equal(found.embeddings[0], documents)


def test_1_uniform_scores_are_what_that_costs(stock, base, encoder):
    query = encoder.encode(QUESTIONS[:1])
    from_feast = np.array(ask_feast(stock, query[0])["embedding"], np.float32) @ query[0]
    assert np.ptp(from_feast) < 1e-6
    found = base.search(query, K)
    assert np.ptp(found.embeddings[0] @ query[0]) > 0.01


def test_2_feast_misaligns_ids_with_titles_and_does_not_sort(stock, encoder):
    answers = [ask_feast(stock, vector) for vector in encoder.encode(QUESTIONS)]
    assert all(answer["title"] != [f"of {identifier}" for identifier in answer["id"]] for answer in answers)
    assert all(answer["distance"] != sorted(answer["distance"], reverse=True) for answer in answers)


def test_2_here_rows_scores_and_embeddings_are_aligned_and_sorted(base, encoder):
    queries = encoder.encode(QUESTIONS)
    found = base.search(queries, K)
    assert (np.diff(found.scores) <= 0).all()
    documents = encoder.encode_passages([base.passages[row] for row in found.rows.ravel()]).reshape(3, K, 32)
    np.testing.assert_allclose(found.scores, np.einsum("bd,bkd->bk", queries, documents), atol=1e-6)


def test_3_feast_takes_one_query_a_call(stock, encoder):
    with pytest.raises(MilvusException, match="not a float"):
        ask_feast(stock, encoder.encode(QUESTIONS))


def test_3_here_a_call_takes_many(base, encoder, monkeypatch):
    calls = []
    search = base._online.search_batch
    monkeypatch.setattr(
        base._online, "search_batch", lambda *args, **options: calls.append(len(args[2])) or search(*args, **options)
    )
    found = base.search(encoder.encode(QUESTIONS * 200), 5)
    assert len(found) == 600
    assert sorted(calls) == [88, 512]


def test_4_feasts_retriever_gives_empty_texts_and_no_ids_by_default(stock, encoder):
    _, ids, documents = feast_retriever(stock).retrieve(encoder.encode(QUESTIONS), 5)
    assert (ids == -1).all()
    assert all(document["text"] == [""] * 5 for document in documents)


def test_4_here_every_row_leads_to_a_text(base, encoder):
    found = base.search(encoder.encode(QUESTIONS), 5)
    assert all(base.passages[row].text for row in found.rows.ravel())


def test_5_feasts_hybrid_finds_only_the_whole_question_word_for_word(stock, encoder):
    question = "what does the otter number 0 of the river eat"
    (vector,) = encoder.encode([question])
    assert ask_feast(stock, vector, query_string=question)["title"] == []


def test_5_here_the_same_question_finds_its_passage(base, encoder):
    found = base.search(encoder.encode(["what does the otter number 0 of the river eat"]), 5)
    assert "w0" in [base.passages[row].id for row in found.rows[0]]
