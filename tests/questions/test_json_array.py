import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.questions.json_array import ARRAY_START, array_elements

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def parse(text):
    start = ARRAY_START.match(text)
    return list(array_elements(io.BufferedReader(io.BytesIO(text.encode())), "file", start.end()))


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 0, 2]))
def test_elements_are_those_that_the_json_package_finds(elements, indent):
    found = [value for _, value in parse(json.dumps(elements, indent=indent))]
    assert found == elements


@given(st.lists(VALUES | st.floats(allow_nan=False), max_size=4), st.integers(1, 7))
def test_it_does_not_matter_where_the_chunks_end(elements, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ragtune.questions.json_array._CHUNK_BYTES", chunk)
        assert [value for _, value in parse(json.dumps(elements, ensure_ascii=False))] == elements


@pytest.mark.parametrize(
    "text",
    [
        '{"data": [1, 2], "version": "1.1"}',
        '{"version": "1.1", "data": [1, 2]}',
        ' {\n"a": 1.5, "data" : [1, 2]}',
        "[1, 2]",
    ],
)
def test_an_array_is_found_alone_or_under_data(text):
    assert [value for _, value in parse(text)] == [1, 2]


def test_elements_have_the_line_that_they_start_on():
    assert [line for line, _ in parse('[1,\n\n{"a":\n 2}, 3\n]')] == [1, 3, 4]


@pytest.mark.parametrize("text", ['{"question": "x"}', '{"data": "x"}', "", '{"question": {"data": [1]}}'])
def test_a_row_is_not_taken_for_an_array(text):
    assert ARRAY_START.match(text) is None
