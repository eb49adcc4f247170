import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import ParameterError, StorageError
from ragtune.questions.delimited import delimited_rows
from ragtune.questions.nq import read_questions
from ragtune.questions.rows import read_rows

CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), max_size=5)


def rows(text, delimiter=",", quoting="auto"):
    lines = enumerate(io.StringIO(text, newline="\n"), 1)
    return list(delimited_rows(lines, "file", delimiter, quoting))


def test_a_stray_quote_in_tsv_is_a_character():
    text = 'id\ttext\n1\t"a\n2\tb "c" d\n3\te\n4\t"f"\n5\tg\n'
    assert [row["text"] for _, row, _ in rows(text, "\t")] == ['"a', 'b "c" d', "e", '"f"', "g"]


def test_a_stray_quote_in_csv_costs_its_own_row_and_says_so():
    found = rows('id,text\n1,a\n2,"b\n3,c\n4,d\n5,e\n')
    assert [row["text"] for _, row, problem in found if not problem] == ["a", "c", "d", "e"]
    assert [(line, problem) for line, _, problem in found if problem] == [
        (3, "broken CSV: a quote is not closed where its cell ends")
    ]


def test_a_stray_quote_before_a_long_rest_is_given_up_early():
    def lines():
        yield 1, "id,text\n"
        yield 2, '1,"a\n'
        for number in range(3, 300_000):
            reached[0] = number
            yield number, "2,b\n"

    reached = [0]
    found = delimited_rows(lines(), "file", ",")
    assert next(found)[0] == 2
    assert reached[0] < 110_000
    assert sum(not problem for _, _, problem in found) == 300_000 - 3


def test_a_quote_that_closes_in_the_middle_of_a_cell_is_a_problem():
    found = rows('id,text\n1,"a" b\n2,"c\nd" e\n3,f\n')
    assert [bool(problem) for _, _, problem in found] == [True, True, True, False]
    assert [line for line, _, _ in found] == [2, 3, 4, 5]  # of the second row both lines


def test_a_quoted_cell_goes_on_over_lines_and_has_the_first_ones_number():
    assert rows('id,text\n1,"a, ""b""\nc"\n\n2,d\n') == [
        (2, {"id": "1", "text": 'a, "b"\nc'}, ""),
        (5, {"id": "2", "text": "d"}, ""),
    ]


@given(st.lists(st.tuples(CELLS, CELLS), max_size=4), st.sampled_from(",\t"))
def test_minimal_quoting_reads_what_the_csv_package_writes(table, delimiter):
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerows([("a", "b"), *table])
    assert [tuple(row.values()) for _, row, _ in rows(stream.getvalue(), delimiter, "minimal")] == table


def test_quoting_may_be_left_out_of_csv():
    assert rows('id,text\n1,"a\n', quoting="none") == [(2, {"id": "1", "text": '"a'}, "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"id"\t"text"\n1\ta\n', "file:1: the header is quoted; pass quoting=minimal"),
        ("a\ta\n", "names a column twice"),
        ("question;answers\nwho;x\n", "has a semicolon in its only name; write a .csv with commas or a .tsv with tabs"),
        ("question,answers\nwho,x\n", "has a comma in its only name"),
    ],
)
def test_a_header_that_cannot_be_right_is_refused(text, message):
    with pytest.raises(StorageError, match=message):
        rows(text, "\t")


def test_an_unknown_quoting_is_refused(tmp_path):
    with pytest.raises(ParameterError, match='quoting "always": must be one of auto, none, minimal'):
        list(read_rows(tmp_path, quoting="always"))


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"it's\"]", ["a", "it's"]),
        ("['a']", ["a"]),
        ("[1969, 2]", ["1969", "2"]),
        ("a, b", "a, b"),
        ("[]", []),
    ],
)
def test_lists_in_cells_are_split(cell, answers):
    assert rows(f"question\tanswers\nwho\t{cell}\n", "\t") == [(2, {"question": "who", "answers": answers}, "")]


@pytest.mark.parametrize(
    "cell", ["['a' 'b']", "[a, b]", "['a', 1]", "[", "{'text': ['a']}", "array(['a'])", '["a"] b', "[" * 100_000]
)
def test_what_looks_like_a_list_and_is_none_is_a_problem(cell):
    ((line, row, problem),) = rows(f"question\tanswers\nwho\t{cell}\n", "\t")
    assert (line, row) == (2, {})
    assert problem.startswith('"answers" looks like a list and is none: ')


def test_one_gold_id_in_a_cell_is_a_list_of_one():
    found = rows("gold_ids\ttext\np1\t[a]\n\tb\n['p1', 'p2']\tc\n", "\t")
    assert [row["gold_ids"] for _, row, _ in found] == [["p1"], [], ["p1", "p2"]]
    assert found[0][1]["text"] == "[a]"


def test_questions_come_out_of_a_table_with_lists(tmp_path):
    table = tmp_path / "q.csv"
    table.write_text("question,answers,gold_ids\nwho,\"['x', 'y']\",p1\nwhat,\"['x' 'y']\",p2\n")
    found = list(read_questions(table))
    assert (found[0].answers, found[0].gold_ids) == (("x", "y"), ("p1",))
    assert (found[1].line, found[1].reason) == (3, "malformed")
