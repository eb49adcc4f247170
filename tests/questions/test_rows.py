import gzip
import json
import tracemalloc

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragtune.errors import StorageError
from ragtune.questions.rows import Row, read_rows

ROWS = [{"question": "who", "answers": ["é"]}, {"question": "what", "answers": ["b", "c"]}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def values(uri, **options):
    return [row.value for row in read_rows(uri, **options)]


def test_lines_of_json_have_their_file_and_number(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text(LINES.replace("\n", "\n\n", 1))
    assert list(read_rows(file)) == [Row(str(file), 1, ROWS[0]), Row(str(file), 3, ROWS[1])]


@pytest.mark.parametrize("name", ["q.jsonl.gz", "an_artifact_without_suffix"])
def test_gzip_is_unpacked_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(LINES.encode()))
    assert values(tmp_path / name) == ROWS


@pytest.mark.parametrize("name", ["q.parquet", "an_artifact_without_suffix"])
def test_parquet_is_read_whatever_its_name(tmp_path, name):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / name)
    assert values(tmp_path / name) == ROWS


def test_columns_of_parquet_are_left_out(tmp_path):
    pq.write_table(pa.Table.from_pylist([{"a": 1, "d": {"html": "x", "title": "t"}}]), tmp_path / "q")
    assert values(tmp_path / "q", skip=["d.html"]) == [{"a": 1, "d": {"title": "t"}}]


def test_csv_and_tsv_go_by_their_header(tmp_path):
    (tmp_path / "c.csv").write_text('id,text\n1,"a, ""b""\nc"\n')
    (tmp_path / "c.tsv").write_text("id\ttext\n1\ta, b\n")
    assert values(tmp_path / "c.csv") == [{"id": "1", "text": 'a, "b"\nc'}]
    assert values(tmp_path / "c.tsv") == [{"id": "1", "text": "a, b"}]


def test_a_csv_row_of_another_width_is_a_problem_not_an_error(tmp_path):
    (tmp_path / "c.csv").write_text("id,text\n1\n2,b,c\n3,d\n")
    assert [bool(row.problem) for row in read_rows(tmp_path / "c.csv")] == [True, True, False]


def test_fsspec_uris_are_read(tmp_path):
    with fsspec.open("memory://rows/q.jsonl.gz", "wb", compression="infer") as stream:
        stream.write(LINES.encode())
    assert values("memory://rows/q.jsonl.gz") == ROWS


def test_folders_and_globs_are_read_in_the_order_of_names(tmp_path):
    for number, row in enumerate(ROWS):
        (tmp_path / f"part-{number}.jsonl").write_text(json.dumps(row))
    (tmp_path / "_SUCCESS").write_text("")
    assert values(tmp_path) == values(f"{tmp_path}/part-*.jsonl") == values(f"file://{tmp_path}/part-?.jsonl") == ROWS


def test_a_hugging_face_dataset_is_streamed(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "train.jsonl").write_text(LINES)
    (tmp_path / "validation.jsonl").write_text(json.dumps(ROWS[0]))
    assert values(f"hf://{tmp_path}") == ROWS
    assert values(f"hf://{tmp_path}?split=validation") == ROWS[:1]


@pytest.mark.parametrize(
    ("query", "message"), [("?split=dev", "cannot be opened.*dev"), ("?spilt=train", "no such option.*spilt")]
)
def test_a_wrong_option_of_a_dataset_is_named(tmp_path, query, message):
    pytest.importorskip("datasets")
    (tmp_path / "train.jsonl").write_text(LINES)
    with pytest.raises(StorageError, match=message):
        values(f"hf://{tmp_path}{query}")


@pytest.mark.parametrize("line", ["{", "[1]", "nothing", '{"a": ' + "[" * 100_000, '{"a": ' + "1" * 5000 + "}"])
def test_a_broken_line_is_a_row_with_a_problem(tmp_path, line):
    (tmp_path / "q.jsonl").write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    rows = list(read_rows(tmp_path / "q.jsonl"))
    assert [row.value for row in rows] == [{"a": 1}, {}, {"a": 2}]
    assert rows[1].problem
    assert rows[1].line == 2


def test_a_truncated_last_line_is_a_row_with_a_problem(tmp_path):
    (tmp_path / "q.jsonl").write_text(LINES[:-20])
    assert [bool(row.problem) for row in read_rows(tmp_path / "q.jsonl")] == [False, True]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "q.jsonl").write_text(LINES, "utf-8-sig")
    (tmp_path / "q.json").write_text(json.dumps(ROWS), "utf-8-sig")
    assert values(tmp_path / "q.jsonl") == values(tmp_path / "q.json") == ROWS


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "q.jsonl").write_text("")
    assert values(tmp_path / "q.jsonl") == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", LINES.encode() + b'{"a": "\xe9"}\n', r"q\.jsonl:3: is not UTF-8.*iconv"),
        ("q.jsonl", LINES.encode("utf-16"), r"q\.jsonl:1: is not UTF-8"),
        ("q.json", b'[{"a": 1},\n{"a": "\xe9"}]', r"q\.json:2: is not UTF-8"),
        (
            "q.jsonl.gz",
            gzip.compress(LINES.encode() * 9999, mtime=0)[:-100],
            r"q\.jsonl\.gz: broken gzip after line \d.*again",
        ),
        ("q.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-8] + b"12345678", r"broken gzip.*CRC"),
        ("q.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)[:-8] + b"12345678", r"broken gzip.*CRC"),
        ("q.jsonl.gz", b"this is no gzip", r"broken gzip"),
        ("q", b"PAR1 and then nothing that is Parquet", r"broken Parquet"),
        ("q.json", b'[{"a": 1}, {"a": ', r"q\.json:1: the JSON breaks off"),
        ("q.json", b'[{"a": 1}', r"q\.json:1: the JSON breaks off"),
        (
            "q.json",
            b'[{"a": 1},\n\n{"a": nothing, "b": [1, 2, 3, 4, 5, 6, 7, 8, 9]}]',
            r"q\.json:3: the JSON is broken",
        ),
        ("q.json", b'[{"a": 1} {"a": 2}]', r'q\.json:1: the JSON lacks a ","'),
        ("q.json", b'[{"a": 1}]\n{"a": 2}', r"q\.json:2: more JSON after the end of the array"),
    ],
)
def test_a_broken_file_is_named_with_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError, match=message):
        values(tmp_path / name)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("absent.jsonl", "no such file"),
        ("absent-*.jsonl", "no files there"),
        (".", "no files there"),
        ("nothing://q.jsonl", "cannot be read"),
    ],
)
def test_a_missing_file_is_named(tmp_path, monkeypatch, uri, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=message) as raised:
        values(uri)
    assert uri in str(raised.value)


def test_a_lost_server_is_named():
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9/q\.jsonl"):
        values("http://127.0.0.1:9/q.jsonl")


@pytest.mark.parametrize("layout", ["array", "lines"])
def test_a_file_is_never_in_memory_as_a_whole(tmp_path, layout):
    value = json.dumps({"text": "x" * 1000})
    lines = 20_000
    with open(tmp_path / "q.json", "w") as stream:
        start, between, end = ("[", ",", "]") if layout == "array" else ("", "\n", "")
        stream.write(start + between.join([value] * lines) + end)
    list(read_rows(tmp_path / "q.json")).clear()  # what is imported or cached on first use does not count
    tracemalloc.start()
    read = sum(1 for _ in read_rows(tmp_path / "q.json"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == lines
    assert peak < (tmp_path / "q.json").stat().st_size / 2
