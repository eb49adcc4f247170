import gzip
import importlib.util
import json
import os
import tracemalloc
import zipfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragtune.errors import StorageError
from ragtune.questions.rows import Row, read_rows
from ragtune.sources import fingerprint

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
        ("q.jsonl", LINES.encode("utf-16-le"), r"q\.jsonl:1: is UTF-16, not UTF-8.*iconv"),
        ("q.csv", "id,text\n".encode("utf-16-be"), r"q\.csv:1: is UTF-16"),
        ("q.jsonl.zst", b"\x28\xb5\x2f\xfd\x04", "is Zstandard, which is not unpacked here"),
        ("q.json", b'[{"a": 1},\n{"a": "\xe9"}]', r"q\.json:2: is not UTF-8"),
        (
            "q.jsonl.gz",
            gzip.compress(LINES.encode() * 9999, mtime=0)[:-100],
            r"q\.jsonl\.gz: broken gzip after line \d.*again",
        ),
        ("q.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-8] + b"12345678", r"broken gzip.*CRC"),
        ("q.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)[:-8] + b"12345678", r"broken gzip.*CRC"),
        ("q.jsonl.gz", b"this is no gzip", r"is not gzip, though its name says so .*rename it"),
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


LONG = gzip.compress(b"x" * (1 << 20)) * 200  # 200 KB; a chain of gzip files is a gzip file


def peak_of(read):
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "head", "tail"),
    [
        ("q.jsonl.gz", b'{"a": "first"}\n{"a": "', b'"}\n{"a": "last"}\n'),
        ("q.csv.gz", b'a\nfirst\n"', b'"\nlast\n'),
        ("q.tsv.gz", b"a\nfirst\n", b"\nlast"),
    ],
)
def test_a_row_of_any_length_is_a_problem_and_never_in_memory(tmp_path, name, head, tail):
    (tmp_path / name).write_bytes(gzip.compress(head) + LONG + gzip.compress(tail))
    rows = []
    peak = peak_of(lambda: rows.extend(read_rows(tmp_path / name)))
    line = head.count(b"\n") + 1
    assert [(row.line, row.problem) for row in rows if row.problem] == [(line, "is longer than 64 MiB")]
    assert [row.value for row in rows if not row.problem] == [{"a": "first"}, {"a": "last"}]
    assert peak < 160 << 20


def test_an_element_of_any_length_is_refused_and_never_in_memory(tmp_path):
    (tmp_path / "q.json.gz").write_bytes(gzip.compress(b'[{"a": 1},\n{"a": "') + LONG + gzip.compress(b'"}]'))

    def read():
        with pytest.raises(StorageError, match=r"q\.json\.gz:2: a value is longer than 64 MiB"):
            values(tmp_path / "q.json.gz")

    assert peak_of(read) < 320 << 20


def test_a_long_row_within_the_limit_is_read(tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps({"a": "x" * (20 << 20)}) + "\n")
    ((value),) = values(tmp_path / "q.jsonl")
    assert len(value["a"]) == 20 << 20


def test_a_row_with_a_date_that_python_has_not_is_a_problem(tmp_path):
    days = pa.array([0, 10_000_000, 1], pa.int32()).cast(pa.date32())  # the second one in the year 29349
    pq.write_table(pa.table({"id": ["a", "b", "c"], "day": days}), tmp_path / "q.parquet")
    rows = list(read_rows(tmp_path / "q.parquet"))
    assert [row.value.get("id") for row in rows] == ["a", None, "c"]
    assert (rows[1].line, rows[1].problem[:24]) == (2, "holds what Python cannot")


def test_a_file_name_that_is_not_utf8_is_read_and_shown_escaped(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl")
    with open(name, "w") as stream:
        stream.write(LINES + "{\n")
    rows = list(read_rows(tmp_path))
    assert [row.value for row in rows] == [*ROWS, {}]
    assert rows[0].file == f"{tmp_path}/caf\\udce9.jsonl"
    fingerprint(str(tmp_path)).encode()


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)


def test_a_zip_of_one_file_is_that_file(tmp_path):
    zipped(tmp_path / "q.zip", q_csv="a,b\n1,2\n")
    zipped(tmp_path / "any", q_jsonl=LINES)
    assert values(tmp_path / "q.zip") == [{"a": "1", "b": "2"}]
    assert values(tmp_path / "any") == ROWS


def test_a_zip_of_several_files_is_refused_with_the_way_to_name_them(tmp_path):
    zipped(tmp_path / "q.zip", a_jsonl=json.dumps(ROWS[0]), b_jsonl=json.dumps(ROWS[1]), c_txt="c")
    with pytest.raises(
        StorageError, match=r"q\.zip: holds 3 files \(a\.jsonl, b\.jsonl, c\.txt …\), one is needed"
    ) as raised:
        values(tmp_path / "q.zip")
    assert f"zip://*.jsonl::{tmp_path}/q.zip" in str(raised.value)
    assert values(f"zip://*.jsonl::{tmp_path}/q.zip") == ROWS
    assert values(f"zip://b.jsonl::{tmp_path}/q.zip") == ROWS[1:]


@pytest.mark.parametrize("break_it", [lambda zipped: zipped[:-30], lambda zipped: zipped[:60] + b"?" + zipped[61:]])
def test_a_broken_zip_is_named(tmp_path, break_it):
    zipped(tmp_path / "q.zip", q_jsonl=LINES * 99)
    (tmp_path / "q.zip").write_bytes(break_it((tmp_path / "q.zip").read_bytes()))
    with pytest.raises(StorageError, match=r"q\.zip: broken zip after line \d.*again"):
        values(tmp_path / "q.zip")


def test_a_package_for_a_kind_of_uri_is_named():
    for uri, extra in (("gs://bucket/q.jsonl", "gs"), ("abfs://container/q.jsonl", "abfs")):
        if importlib.util.find_spec({"gs": "gcsfs", "abfs": "adlfs"}[extra]) is None:
            with pytest.raises(StorageError, match=rf'{uri}: .*; pip install "ragtune\[{extra}\]"'):
                values(uri)
