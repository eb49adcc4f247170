import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.index import CHOICES, FLAT, GRAPH, Index, check_index, first_index, next_index


def test_auto_is_flat_up_to_eight_million_floats():
    assert first_index("auto", 10_000, 800) == FLAT
    assert first_index("auto", 10_001, 800) == GRAPH
    assert first_index("FLAT", 10**9, 800) == FLAT
    assert first_index("HNSW", 1, 1) == GRAPH


def test_a_graph_that_finds_too_little_becomes_stronger_and_then_flat():
    tried = [GRAPH]
    while stronger := next_index(tried[-1]):
        tried.append(stronger)
    assert [str(index) for index in tried] == [
        "HNSW with M 16 and ef 160",
        "HNSW with M 16 and ef 640",
        "HNSW with M 32 and ef 640",
        "FLAT",
    ]
    assert next_index(Index("HNSW", {"M": 8}, {"ef": 10})) == FLAT  # of an older version


def test_other_choices_are_refused():
    for choice in CHOICES:
        check_index(choice)
    with pytest.raises(KnowledgeBaseError, match='index "IVF": choose one of auto, HNSW, FLAT'):
        check_index("IVF")
