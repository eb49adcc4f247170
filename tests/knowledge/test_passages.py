import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.knowledge.hashes import hex_digits
from ragtune.knowledge.passages import SCHEMA, Passage, Passages, passage_hash


def row(identifier, text, title=""):
    return {"id": identifier, "title": title, "text": text}


def passages(*rows):
    return Passages(pa.Table.from_pylist([row(*cells) for cells in rows]))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ""])
def test_passages_are_the_same_after_saving(tmp_path, suffix):
    before = passages(("w1", "a", "T"), ("w2", "b"))
    before.save(tmp_path / f"p{suffix}")
    after = Passages.open(tmp_path / f"p{suffix}")
    assert list(after) == list(before)
    assert after.content_hash == before.content_hash
    assert after.table.schema == SCHEMA


def test_an_arrow_file_is_mapped_not_read(tmp_path):
    Passages(pa.table({"id": [str(n) for n in range(2000)], "text": ["x" * 5000] * 2000})).save(tmp_path / "p.arrow")
    before = pa.total_allocated_bytes()
    opened = Passages.open(tmp_path / "p.arrow")
    assert opened[1999].text == "x" * 5000
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_rows_slices_and_ids_give_the_same_passages():
    found = passages(("w1", "a", "T"), ("w2", "b"), ("w3", "c"))
    assert found[np.int64(1)] == found[1] == Passage("w2", "", "b", ("w2",))
    assert found[1:] == list(found)[1:]
    assert found.ids == ["w1", "w2", "w3"]
    assert found.row_of("w3") == 2
    assert len(found) == 3


def test_passages_of_more_than_2_gib_are_taken_by_row():
    one_chunk = pa.array(["x" * 64_000] * 1000)
    texts = pa.chunked_array([one_chunk] * 34)  # the same 64 MB, 34 times
    many = Passages(pa.table({"id": pa.array([f"w{row}" for row in range(len(texts))]), "text": texts}))
    with pytest.raises(pa.ArrowInvalid, match="offset overflow"):  # which is why `take` is not this
        many.table.take([0, 33_999])
    assert [passage.id for passage in many.take(np.array([1, 999, 1000, 33_999]))] == ["w1", "w999", "w1000", "w33999"]
    assert many.longest_text == (0, 64_000)


def test_what_is_kept_for_each_passage_does_not_grow_with_its_text_or_id():
    ids = [f"a long id of passage {row}" for row in range(20_000)]
    many = Passages(pa.table({"id": ids, "text": ids}))
    del ids
    tracemalloc.start()
    many.content_hashes, many.rows_of(["a long id of passage 7"])
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 45 * len(many)


def test_rows_are_found_by_id_many_at_once():
    found = passages(("w1", "a"), ("w2", "b"), ("w1", "c"))
    assert found.rows_of(["w2", "w9", "w1", ""]).tolist() == [1, -1, 0, -1]
    assert found.duplicate_ids == 1


@pytest.mark.parametrize("row", [3, -4])
def test_a_row_that_is_not_there_is_an_index_error(row):
    with pytest.raises(IndexError):
        passages(("w1", "a"), ("w2", "b"), ("w3", "c"))[row]


def test_an_unknown_id_is_an_error():
    with pytest.raises(KnowledgeBaseError, match='no passage has the id "w9"'):
        passages(("w1", "a")).row_of("w9")


def test_an_id_that_stands_twice_is_an_error():
    with pytest.raises(KnowledgeBaseError, match="1 ids occur more than once"):
        passages(("w1", "a"), ("w1", "b")).row_of("w1")


def test_content_hashes_are_of_title_and_text_alone():
    one, same, other = hex_digits(passages(("w1", "a", "T"), ("w2", "a", "T"), ("w3", "Ta", "")).content_hashes)
    assert one == same == passage_hash("T", "a")
    assert one != other
    assert len(one) == 32


@pytest.mark.parametrize("changed", [("w2", "a", "T"), ("w1", "b", "T"), ("w1", "a", "U"), ("w1", "Ta", "")])
def test_the_content_hash_changes_with_id_title_and_text(changed):
    assert passages(("w1", "a", "T")).content_hash != passages(changed).content_hash


def test_the_content_hash_changes_with_the_sources():
    table = pa.Table.from_pylist([row("w1", "a") | {"source_ids": ["w1", "w2"]}])
    assert Passages(table).content_hash != passages(("w1", "a")).content_hash


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["w1"]}, 'no column "text"'),
        ({"text": ["a"]}, 'no column "id"'),
        ({"id": ["w1", None], "text": ["a", "b"]}, '1 rows have no "id"'),
        ({"id": ["w1"], "text": [["a"]]}, "not of the type"),
    ],
)
def test_a_table_of_something_else_is_an_error(columns, message):
    with pytest.raises(KnowledgeBaseError, match=message):
        Passages(pa.table(columns))


@pytest.mark.parametrize("name", ["p.parquet", "p.arrow"])
def test_a_broken_file_is_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1 nothing")
    with pytest.raises(KnowledgeBaseError, match=f"{name}: cannot be read as passages"):
        Passages.open(tmp_path / name)
    with pytest.raises(StorageError, match="absent"):
        Passages.open(tmp_path / f"absent_{name}")
