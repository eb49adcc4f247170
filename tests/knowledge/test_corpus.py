import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.corpus import CorpusRow, read_corpus

ROW = {"id": "w1", "title": "Peru", "text": "Lima is  its\ncapital."}


def write(path, kind):
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([ROW]), path)
    elif kind in ("csv", "tsv"):
        quoted = [f'"{value}"' for value in ROW.values()]
        path.write_text("\n".join({"csv": ",", "tsv": "\t"}[kind].join(row) for row in (ROW, quoted)))
    else:
        text = json.dumps(ROW).encode()
        path.write_bytes(gzip.compress(text) if kind == "jsonl.gz" else text)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet", "csv", "tsv"])
def test_rows_come_cleaned_from_every_kind_of_file(tmp_path, kind):
    write(tmp_path / f"c.{kind}", kind)
    (row,) = read_corpus(tmp_path / f"c.{kind}", quoting="minimal")
    assert (row.id, row.title, row.text) == ("w1", "Peru", "Lima is its capital.")
    assert row.place.startswith(f"{tmp_path}/c.{kind}:")


@pytest.mark.parametrize(
    ("row", "cleaned"),
    [
        ({"id": 7, "text": "a"}, ("7", "", "a")),
        ({"id": "x", "title": None, "text": None}, ("x", "", "")),
        ({"id": "x", "text": " a\u00a0b\u0000c \t"}, ("x", "", "a b c")),
        ({"id": "x", "text": "half \ud800"}, ("x", "", "half ?")),
    ],
)
def test_ids_become_text_and_texts_lose_what_cannot_be_stored(tmp_path, row, cleaned):
    file = tmp_path / "c.jsonl"
    file.write_text(json.dumps(row))
    assert list(read_corpus(file)) == [CorpusRow(*cleaned, f"{file}:1")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a"', r"c\.jsonl:2: broken JSON.*fix or remove the row"),
        ('{"id": "a", "body": "b"}', r'c\.jsonl:2: no column "text" among id, body'),
        ('{"text": "b"}', r'c\.jsonl:2: no column "id" among text'),
        ('{"id": "", "text": "b"}', r"c\.jsonl:2: \"id\" must be"),
        ('{"id": " \\t", "text": "b"}', r"c\.jsonl:2: \"id\" must be"),
        ('{"id": "\\u0000", "text": "b"}', r"c\.jsonl:2: \"id\" must be"),
        ('{"id": 1.5, "text": "b"}', r"c\.jsonl:2: \"id\" must be.*1\.5"),
        ('{"id": "a", "text": ["b"]}', r'c\.jsonl:2: "text" must be text, this is of type list'),
        ('{"id": "a", "text": "b", "title": 5}', r'c\.jsonl:2: "title" must be text'),
    ],
)
def test_a_row_that_cannot_be_used_is_an_error_at_its_line(tmp_path, line, message):
    (tmp_path / "c.jsonl").write_text('{"id": "w", "text": "x"}\n' + line)
    with pytest.raises(KnowledgeBaseError, match=message):
        list(read_corpus(tmp_path / "c.jsonl"))
