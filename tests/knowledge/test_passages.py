import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.knowledge.hashes import hex_digits
from ragtune.knowledge.passages import SCHEMA, Passage, Passages, passage_hash, split_passages
from ragtune.questions.cleaning import text_id

LONG = "Lima is the capital. " * 10


def row(identifier, text, title=""):
    return {"id": identifier, "title": title, "text": text}


def split(folder, rows, **options):
    corpus, output = folder / "corpus.jsonl", folder / "out" / "passages.parquet"
    corpus.write_text("".join(json.dumps(line) + "\n" for line in rows))
    counts = split_passages(corpus, output, **options)
    return counts, [replace(passage, source_ids=row_ids(passage)) for passage in Passages.open(output)]


def row_ids(passage):
    return tuple(source for source in passage.source_ids if not source.startswith("text-"))


def passages(*rows):
    return Passages(pa.Table.from_pylist([row(*cells) for cells in rows]))


def test_a_short_row_is_a_passage_under_its_own_id(tmp_path):
    counts, found = split(tmp_path, [row("w1", "Lima is  the capital.", "Peru")])
    assert found == [Passage("w1", "Peru", "Lima is the capital.", ("w1",))]
    assert counts == {"corpus_rows": 1, "passages": 1, "rows_empty": 0, "rows_split": 0, "passages_duplicate": 0}


def test_a_long_row_is_cut_into_numbered_passages_with_its_title(tmp_path):
    counts, found = split(tmp_path, [row("w1", "Lima is big. Cuzco is old. Puno is high.", "Peru")], max_words=6)
    assert found == [
        Passage("w1#0", "Peru", "Lima is big. Cuzco is old.", ("w1",)),
        Passage("w1#1", "Peru", "Puno is high.", ("w1",)),
    ]
    assert (counts["rows_split"], counts["passages"]) == (1, 2)


def test_of_equal_passages_the_first_is_kept_with_the_ids_of_all(tmp_path):
    rows = [
        row("w1", "a b", "T"),
        row("w2", "c d"),
        row("w3", " a  b", "T"),
        row("w4", "a b"),
        row("w5", "a b c d", "T"),
    ]
    counts, found = split(tmp_path, rows, max_words=2)
    assert [(passage.id, passage.source_ids) for passage in found] == [
        ("w1", ("w1", "w3", "w5")),
        ("w2", ("w2",)),
        ("w4", ("w4",)),  # another title
        ("w5#1", ("w5",)),
    ]
    assert counts["passages_duplicate"] == 2


def test_every_piece_names_the_texts_that_it_is_of_by_their_content(tmp_path):
    split(tmp_path, [row("w1", "a b c"), row("w2", " a  b\n"), row("w3", "a b", "T")], max_words=2)
    found = {passage.id: passage.source_ids for passage in Passages.open(tmp_path / "out" / "passages.parquet")}
    whole, piece = text_id("a b c"), text_id("a b")
    assert found == {"w1#0": ("w1", whole, "w2", piece), "w1#1": ("w1", whole), "w3": ("w3", piece)}


def test_the_same_row_twice_is_one_passage(tmp_path):
    counts, found = split(tmp_path, [row("w1", LONG), row("w1", LONG)], max_words=20)
    assert counts["passages_duplicate"] >= 1
    assert {passage.source_ids for passage in found} == {("w1",)}


def test_a_text_that_repeats_itself_is_one_passage(tmp_path):
    _, found = split(tmp_path, [row("w1", LONG)], max_words=4)
    assert found == [Passage("w1#0", "", "Lima is the capital.", ("w1",))]


def test_rows_without_text_are_counted_and_dropped(tmp_path):
    counts, found = split(tmp_path, [row("w1", " \n"), row("w2", None), row("w3", "a")])
    assert [passage.id for passage in found] == ["w3"]
    assert counts["rows_empty"] == 2


def test_a_row_of_100_000_characters_is_cut_and_loses_nothing(tmp_path):
    text = " ".join(f"Number {number} is here." for number in range(5_000))
    counts, found = split(tmp_path, [row("w1", text)])
    assert len(text) > 100_000
    assert " ".join(passage.text for passage in found) == text
    assert max(len(passage.text.split()) for passage in found) <= 100
    assert counts["passages"] == len(found) == 200


def test_a_word_of_100_000_characters_is_cut_and_loses_nothing(tmp_path):
    word = "".join(map(str, range(30_000)))[:100_000]
    _, found = split(tmp_path, [row("w1", word)])
    assert "".join(passage.text for passage in found) == word
    assert len(found) == 50


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=8))
def test_every_row_is_a_source_of_passages_that_hold_its_words(tmp_path, texts):
    _, found = split(tmp_path, [row(f"w{number}", text) for number, text in enumerate(texts)], max_words=3)
    assert len({passage.id for passage in found}) == len(found)
    assert len({passage.text for passage in found}) == len(found)
    for number, text in enumerate(texts):
        words = {word for passage in found if f"w{number}" in passage.source_ids for word in passage.text.split()}
        assert words == set(text.split())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"corpus\.jsonl: is empty; a corpus with id, title and text is needed"),
        ([row("w1", ""), row("w2", " ")], r"corpus\.jsonl: no text in any of 2 rows"),
        (
            [row("w1", "a"), row("w2", "b"), row("w1", "c")],
            r'corpus\.jsonl:3: the id "w1" stands for another text at .*corpus\.jsonl:1; give each text its own id',
        ),
        ([row("w1", "a", "T"), row("w1", "a", "U")], r'corpus\.jsonl:2: the id "w1" stands for another text'),
        (
            [row("w1", "One two three. Four five six."), row("w1#1", "c")],
            r'corpus\.jsonl:2: the id "w1#1" stands for another text at .*corpus\.jsonl:1',
        ),
        ([row("w1", "a"), {"id": "w2"}], r'corpus\.jsonl:2: no column "text"'),
    ],
)
def test_a_corpus_that_cannot_be_used_is_an_error_and_leaves_no_file(tmp_path, rows, message):
    with pytest.raises(KnowledgeBaseError, match=message):
        split(tmp_path, rows, max_words=3)
    assert not list((tmp_path / "out").iterdir())


def test_less_than_a_word_is_an_error(tmp_path):
    with pytest.raises(KnowledgeBaseError, match="max_words = 0"):
        split(tmp_path, [row("w1", "a")], max_words=0)


def test_a_missing_corpus_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="absent: no such file"):
        split_passages(tmp_path / "absent", tmp_path / "passages.parquet")


def test_the_texts_are_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr("ragtune.knowledge.passages._ROWS_PER_GROUP", 100)
    corpus = tmp_path / "corpus.jsonl"
    with open(corpus, "w") as stream:
        for number in range(3000):
            stream.write(json.dumps(row(f"w{number}", f"{number} " + "some words " * 1000)) + "\n")
    split_passages(corpus, tmp_path / "warm.parquet", max_words=5000)
    tracemalloc.start()
    split_passages(corpus, tmp_path / "passages.parquet", max_words=5000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < corpus.stat().st_size / 3


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
    with pytest.raises(KnowledgeBaseError, match="1 ids stand more than once"):
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


def test_real_passages_are_split_and_keep_their_gold(tmp_path, shared_data):
    counts = split_passages(shared_data / "nq/passages.parquet", tmp_path / "p.parquet")
    assert (counts["corpus_rows"], counts["passages"], counts["rows_split"]) == (24_120, 24_287, 167)
    found = Passages.open(tmp_path / "p.parquet")
    sources = {source for passage in found for source in row_ids(passage)}
    assert sources == set(pq.read_table(shared_data / "nq/passages.parquet").column("id").to_pylist())
