import json
import tracemalloc
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragtune.errors import KnowledgeBaseError, ParameterError, StorageError
from ragtune.knowledge.passages import Passage, Passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.knowledge.splitting import split_text
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


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["piece first", "row first"])
def test_a_row_that_has_the_id_and_text_of_another_rows_piece_is_a_source_of_it(tmp_path, order):
    _, found = split(tmp_path, [row("w1", "a b c"), row("w1#0", "a b")][order], max_words=2)
    sources = {passage.id: set(passage.source_ids) for passage in found}
    assert sources == {"w1#0": {"w1", "w1#0"}, "w1#1": {"w1"}}


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


def split_by_dictionaries(rows, max_words):
    """Ids, texts and sources as `split_passages` has them, from one dictionary of everything."""
    seen, kept, duplicates = {}, {}, 0
    for identifier, text in rows:
        if seen.setdefault(identifier, text) != text:
            return identifier
        if identifier in kept.setdefault("rows", {}):
            duplicates += 1
            continue
        kept["rows"][identifier] = True
        pieces = split_text(text, max_words)
        for number, piece in enumerate(pieces):
            name = f"{identifier}#{number}" if len(pieces) > 1 else identifier
            if piece in kept:
                duplicates += 1
                kept[piece][1].append(identifier)
            else:
                kept[piece] = (name, [identifier])
    del kept["rows"]
    return duplicates, [(name, text, tuple(dict.fromkeys(sources))) for text, (name, sources) in kept.items()]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["w1", "w2", "w3", "w4", "w5"]),
            st.lists(st.sampled_from("AB"), min_size=1, max_size=7).map(" ".join),
        ),
        min_size=1,
        max_size=7,
    )
)
def test_ids_and_texts_that_stand_more_than_once_are_found_as_by_a_dictionary(tmp_path, pairs):
    expected = split_by_dictionaries(pairs, 2)
    rows = [row(*pair) for pair in pairs]
    if isinstance(expected, str):
        with pytest.raises(KnowledgeBaseError, match=f'the id "{expected}" stands for another text'):
            split(tmp_path, rows, max_words=2)
    else:
        counts, found = split(tmp_path, rows, max_words=2)
        assert (counts["passages_duplicate"], [(p.id, p.text, p.source_ids) for p in found]) == expected


def test_what_stays_in_memory_of_a_passage_is_a_few_hashes(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    peaks = []
    for count in (10_000, 30_000):
        corpus.write_text("".join(json.dumps(row(f"w{n:0100d}", str(n))) + "\n" for n in range(count)))
        tracemalloc.start()
        split_passages(corpus, tmp_path / "passages.parquet")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 20_000 < 220  # 375 with a dictionary of ids and one of texts


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
    with pytest.raises(ParameterError, match="max_words=0: must be at least 1"):
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


def test_real_passages_are_split_and_keep_their_gold(tmp_path, shared_data):
    counts = split_passages(shared_data / "nq/passages.parquet", tmp_path / "p.parquet")
    assert (counts["corpus_rows"], counts["passages"], counts["rows_split"]) == (24_120, 24_287, 167)
    found = Passages.open(tmp_path / "p.parquet")
    sources = {source for passage in found for source in row_ids(passage)}
    assert sources == set(pq.read_table(shared_data / "nq/passages.parquet").column("id").to_pylist())
