import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from animals import WordEncoder, animal_texts

from ragtune.knowledge import offline_source
from ragtune.knowledge.embedding import EmbeddingCache, embed_missing
from ragtune.knowledge.offline_source import count_rows, parts_are_whole, write_offline_source
from ragtune.knowledge.passages import Passages

BEFORE, AFTER = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(offline_source, "_ROWS_PER_PART", 16)
    monkeypatch.setattr(offline_source, "_MOST_ROWS_PER_PART", 64)


def write(path, texts, encoder, timestamp=BEFORE, earlier=()):
    """The passages, their vectors, and how many parts were written."""
    passages = Passages(pa.table({"id": list(texts), "title": ["animals"] * len(texts), "text": list(texts.values())}))
    cache = EmbeddingCache(path.parent / "embeddings", encoder.fingerprint, encoder.dimension, encoder.precision)
    embed_missing(passages, encoder, cache)
    written = write_offline_source(path, passages, cache, timestamp, earlier)
    return passages, cache.vectors(passages.content_hashes)[:], written


def parts(path):
    return sorted(path.iterdir())


def assert_holds(path, passages, vectors):
    table = pa.concat_tables([pq.read_table(part) for part in parts(path)])
    assert table["id"].to_pylist() == passages.ids
    assert table["text"].to_pylist() == passages.table["text"].to_pylist()
    assert count_rows(path) == len(passages)
    assert np.array_equal(np.stack(table["embedding"].to_numpy()), vectors)


def test_many_parts_hold_all_rows_in_their_order(tmp_path, encoder):
    passages, vectors, written = write(tmp_path / "one", animal_texts(500), encoder)
    assert written == len(parts(tmp_path / "one")) > 10
    assert_holds(tmp_path / "one", passages, vectors)


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_one_passage_that_changes_writes_one_part_or_two(tmp_path, encoder, change):
    texts = animal_texts(500)
    write(tmp_path / "one", texts, encoder)
    after = {"changed": texts | {"w250": "a fox"}, "removed": {k: v for k, v in texts.items() if k != "w250"}}
    after["added"] = dict([*list(texts.items())[:250], ("new", "a fox"), *list(texts.items())[250:]])
    passages, vectors, written = write(tmp_path / "two", after[change], encoder, AFTER, [tmp_path / "one"])
    assert written <= 2
    assert_holds(tmp_path / "two", passages, vectors)
    linked = [part for part in parts(tmp_path / "two") if part.stat().st_nlink == 2]
    assert len(linked) == len(parts(tmp_path / "two")) - written


def test_a_renamed_passage_is_written(tmp_path, encoder):
    texts = animal_texts(500)
    write(tmp_path / "one", texts, encoder)
    renamed = {("other" if key == "w250" else key): text for key, text in texts.items()}
    passages, vectors, written = write(tmp_path / "two", renamed, encoder, AFTER, [tmp_path / "one"])
    assert written == 1
    assert_holds(tmp_path / "two", passages, vectors)


def test_parts_with_vectors_of_another_encoder_or_precision_are_not_linked(tmp_path, encoder):
    write(tmp_path / "one", animal_texts(100), encoder)
    other = WordEncoder(seed=1)
    half = WordEncoder()
    half.precision = "bfloat16"
    for name, changed in (("other", other), ("half", half)):
        passages, vectors, written = write(tmp_path / name, animal_texts(100), changed, AFTER, [tmp_path / "one"])
        assert written == len(parts(tmp_path / name))
        assert_holds(tmp_path / name, passages, vectors)


def test_a_part_that_is_cut_off_is_written_again(tmp_path, encoder):
    write(tmp_path / "one", animal_texts(100), encoder)
    os.truncate(parts(tmp_path / "one")[0], 100)
    passages, vectors, written = write(tmp_path / "two", animal_texts(100), encoder, AFTER, [tmp_path / "one"])
    assert written == 1
    assert_holds(tmp_path / "two", passages, vectors)


def test_without_hard_links_every_part_is_written(tmp_path, encoder, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    write(tmp_path / "one", animal_texts(100), encoder)
    passages, vectors, written = write(tmp_path / "two", animal_texts(100), encoder, AFTER, [tmp_path / "one"])
    assert written == len(parts(tmp_path / "two"))
    assert_holds(tmp_path / "two", passages, vectors)


def test_a_part_whose_bytes_changed_is_noticed_and_written_again(tmp_path, encoder):
    write(tmp_path / "one", animal_texts(100), encoder)
    assert parts_are_whole(tmp_path / "one")
    part = parts(tmp_path / "one")[0]
    part.write_bytes(part.read_bytes()[:200] + b"changed" + part.read_bytes()[207:])
    assert count_rows(tmp_path / "one") == 100
    assert not parts_are_whole(tmp_path / "one")
    passages, vectors, written = write(tmp_path / "two", animal_texts(100), encoder, AFTER, [tmp_path / "one"])
    assert written == 1
    assert_holds(tmp_path / "two", passages, vectors)


def test_a_missing_part_is_noticed(tmp_path, encoder):
    write(tmp_path / "one", animal_texts(100), encoder)
    parts(tmp_path / "one")[1].unlink()
    assert 0 < count_rows(tmp_path / "one") < 100


def test_a_broken_part_is_noticed(tmp_path, encoder):
    write(tmp_path / "one", animal_texts(100), encoder)
    parts(tmp_path / "one")[1].write_bytes(b"half")
    assert count_rows(tmp_path / "one") == -1
