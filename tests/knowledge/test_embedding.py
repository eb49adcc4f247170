import numpy as np
import pyarrow as pa
import pytest
from animals import WordEncoder

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import embedding
from ragtune.knowledge.embedding import EmbeddingCache, embed_missing
from ragtune.knowledge.passages import Passages, passage_hash


def passages(*texts):
    return Passages(pa.table({"id": [f"w{row}" for row in range(len(texts))], "text": list(texts)}))


def cache_of(folder, encoder):
    return EmbeddingCache(folder, encoder.fingerprint, encoder.dimension)


def test_each_passage_gets_its_own_vector_bit_by_bit(tmp_path, encoder):
    corpus = passages("an otter swims in the river", "a moth", "the lynx of the north sleeps")
    cache = cache_of(tmp_path, encoder)
    assert embed_missing(corpus, encoder, cache) == 3
    assert np.array_equal(cache.vectors(corpus.content_hashes)[:], encoder.encode_passages(list(corpus)))


def test_nothing_is_embedded_twice_in_this_process_or_another(tmp_path, encoder):
    corpus = passages("one", "two", "two", "three")
    cache = cache_of(tmp_path, encoder)
    assert embed_missing(corpus, encoder, cache) == 3
    assert embed_missing(corpus, encoder, cache) == 0
    assert embed_missing(passages("four", "two"), encoder, cache_of(tmp_path, encoder)) == 1
    assert encoder.embedded == 4


def test_another_encoder_has_its_own_vectors(tmp_path, encoder):
    other = WordEncoder(dimension=16, seed=1)
    corpus = passages("one", "two")
    embed_missing(corpus, encoder, cache_of(tmp_path, encoder))
    assert embed_missing(corpus, other, cache_of(tmp_path, other)) == 2
    assert cache_of(tmp_path, other).vectors(corpus.content_hashes).shape == (2, 16)


def test_what_was_embedded_before_a_failure_is_kept(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(embedding, "_ROWS_PER_CALL", 2)
    monkeypatch.setattr(embedding, "_SECONDS_PER_CALL", 0.0)
    monkeypatch.setattr(embedding, "_SECONDS_PER_FILE", 0.0)
    corpus = passages(*(f"word{row}" for row in range(6)))

    class FailsAtTheThirdCall(WordEncoder):
        def encode_passages(self, passages, **options):
            if self.embedded == 4:
                raise MemoryError
            return super().encode_passages(passages, **options)

    with pytest.raises(MemoryError):
        embed_missing(corpus, FailsAtTheThirdCall(), cache_of(tmp_path, encoder))
    assert embed_missing(corpus, encoder, cache_of(tmp_path, encoder)) == 2


def test_blocks_that_other_machines_gave_before_a_failure_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "_SECONDS_PER_FILE", 0.0)
    path = tmp_path / "passages.arrow"
    passages(*(f"word{row}" for row in range(6))).save(path)
    corpus = Passages.open(path)

    class Elsewhere(WordEncoder):
        ends_after = 2

        def encode_rows(self, path, passages, rows):
            for number, part in enumerate(np.split(rows, len(rows) // 2)):
                if number == self.ends_after:
                    raise ConnectionError
                yield part, self.encode_passages([Passages.open(path)[row] for row in part])

    encoder = Elsewhere()
    with pytest.raises(ConnectionError):
        embed_missing(corpus, encoder, cache_of(tmp_path, encoder), path)
    assert embed_missing(corpus, encoder, cache_of(tmp_path, encoder), path) == 2
    vectors = cache_of(tmp_path, encoder).vectors(corpus.content_hashes)[:]
    assert np.array_equal(vectors, WordEncoder().encode_passages(list(corpus)))


def test_a_broken_file_is_passed_over_and_its_passages_are_embedded_again(tmp_path, encoder, caplog):
    corpus = passages("one", "two")
    cache = cache_of(tmp_path, encoder)
    embed_missing(corpus, encoder, cache)
    (path,) = cache.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert embed_missing(corpus, encoder, cache_of(tmp_path, encoder)) == 2
    assert f"{path}: is no file of vectors" in caplog.text


def test_a_vector_that_is_not_finite_is_named_with_its_passage(tmp_path, encoder):
    encoder.encode_passages = lambda passages: np.array([[1.0] * 32, [np.nan] * 32])
    with pytest.raises(KnowledgeBaseError, match=r'words-0: its vector for passage "w1" is not finite'):
        embed_missing(passages("one", "four"), encoder, cache_of(tmp_path, encoder))


def test_vectors_of_another_dimension_than_promised_are_refused(tmp_path, encoder):
    encoder.encode_passages = lambda passages: np.ones((2, 31))
    with pytest.raises(KnowledgeBaseError, match=r"shape \(2, 31\) for 2 passages, but says that its dimension is 32"):
        embed_missing(passages("one", "two"), encoder, cache_of(tmp_path, encoder))


def test_vectors_are_gathered_by_row_as_they_are_asked_for(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(embedding, "_ROWS_PER_FILE", 2)
    monkeypatch.setattr(embedding, "_ROWS_PER_CALL", 2)
    corpus = passages(*(f"word{row} and more" for row in range(7)))
    cache = cache_of(tmp_path, encoder)
    embed_missing(corpus, encoder, cache)
    assert len(list(cache.folder.iterdir())) > 1
    vectors, expected = cache.vectors(corpus.content_hashes), encoder.encode_passages(list(corpus))
    assert vectors.shape == (7, 32)
    assert np.array_equal(vectors[2:5], expected[2:5])
    assert np.array_equal(vectors[np.array([6, 0, 6])], expected[[6, 0, 6]])


def test_a_vector_that_is_not_there_is_named(tmp_path, encoder):
    with pytest.raises(KeyError, match=passage_hash("", "two")):
        cache_of(tmp_path, encoder).vectors(passages("two").content_hashes)


def test_vectors_of_another_precision_are_kept_apart(tmp_path, encoder):
    corpus = passages("one", "two")
    embed_missing(corpus, encoder, cache_of(tmp_path, encoder))
    half = EmbeddingCache(tmp_path, encoder.fingerprint, encoder.dimension, precision="bfloat16")
    assert embed_missing(corpus, encoder, half) == 2


def test_an_encoder_that_is_quick_is_given_more_at_once(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(embedding, "_ROWS_PER_CALL", 2)
    calls = []
    encode = encoder.encode_passages
    encoder.encode_passages = lambda part: calls.append(len(part)) or encode(part)
    embed_missing(passages(*(f"word{row}" for row in range(14))), encoder, cache_of(tmp_path, encoder))
    assert calls == [2, 4, 8]
