import threading
import time

import numpy as np
import pytest
from exact_search import ExactSearch
from gather_process import QUERIES, STORED

from ragtune.errors import KnowledgeBaseError, UnavailableError
from ragtune.models.rag import RagModel
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.knowledge import check_knowledge, open_knowledge
from ragtune.training.retrieval import search as search_module
from ragtune.training.retrieval.search import Retrying, search_at_once


class Restarted(ExactSearch):
    """Does not answer for a while; then fails once as what is starting does; then answers."""

    def __init__(self, failures):
        super().__init__(STORED)
        self.failures = failures
        self.connected = self.closed = 0

    def connect(self):
        self.connected += 1
        return self

    def search(self, queries, k):
        if self.failures:
            raise self.failures.pop(0)
        return super().search(queries, k)

    def close(self):
        self.closed += 1


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(search_module, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(search_module, "FIRST_PAUSE_SECONDS", 0.01)


def test_batches_that_are_searched_at_once_get_their_own_answers():
    search = ExactSearch(STORED)
    parts = search_at_once(search, [QUERIES[:3], QUERIES[3:]], 2)
    assert search.calls == 1
    for part, queries in zip(parts, (QUERIES[:3], QUERIES[3:]), strict=True):
        alone = search.search(queries, 2)
        assert (part.rows == alone.rows).all()
        assert (part.embeddings == alone.embeddings).all()


def test_what_is_restarted_is_connected_to_again(impatient, capsys):
    restarted = Restarted([UnavailableError("gone"), UnavailableError("gone"), KnowledgeBaseError("holds no rows")])
    retrying = Retrying(restarted.connect)
    found = retrying.search(QUERIES, 2)
    assert np.array_equal(found.rows, ExactSearch(STORED).search(QUERIES, 2).rows)
    assert (restarted.connected, restarted.closed) == (4, 3)
    assert "warning: retrieval: gone; retrying in 0.02 s" in capsys.readouterr().err


def test_what_does_not_come_back_is_named(impatient):
    retrying = Retrying(Restarted([UnavailableError("the server at the corner is gone")] * 100).connect)
    with pytest.raises(
        KnowledgeBaseError, match=r"the server at the corner is gone \(asked for [01] s without success"
    ) as error:
        retrying.search(QUERIES, 2)
    assert not isinstance(error.value, UnavailableError)  # or whoever asks this one would go on as long again


def test_an_error_that_asking_again_does_not_mend_is_raised_at_once():
    restarted = Restarted([KnowledgeBaseError("another encoder")])
    with pytest.raises(KnowledgeBaseError, match=r"another encoder$"):
        Retrying(restarted.connect).search(QUERIES, 2)
    assert restarted.connected == 1


@pytest.mark.slow
def test_a_milvus_that_is_killed_and_started_again_is_survived(still_world, still_knowledge_base, lite_server, capfd):
    database = f"{still_knowledge_base}/kb_v1/milvus.db"
    uri = lite_server(database)
    args = RagTrainingArguments(output_dir="run", n_docs=3)
    files = RunFiles(still_world.pairs, still_knowledge_base, "out", "work", **still_world.parts, milvus_uri=uri)
    queries = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    folder, manifest = check_knowledge(files, args, RagModel.from_parts(*still_world.parts.values()))
    with open_knowledge(folder, manifest, files, args) as knowledge:
        before = knowledge.search.search(queries, 3)
        lite_server.kill()
        threading.Timer(3.0, lite_server, [database, int(uri.rpartition(":")[2])]).start()
        start = time.monotonic()
        after = knowledge.search.search(queries, 3)
        assert 3 < time.monotonic() - start < 60
    assert np.array_equal(before.rows, after.rows)
    assert np.array_equal(before.embeddings, after.embeddings)
    said = capfd.readouterr().err
    assert f"warning: retrieval: {uri}: " in said
    assert "retrieval: answers again after" in said
