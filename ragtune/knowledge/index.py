"""The kinds of index that a version may have, and which one is tried first and next."""

from dataclasses import dataclass, field

from ragtune.errors import KnowledgeBaseError

CHOICES = ("auto", "HNSW", "FLAT")
_FLAT_FLOATS = 8_000_000  # rows × dimension; up to there FLAT is about as fast (benchmarks/index_recall.py)


@dataclass(frozen=True)
class Index:
    """An index of Milvus.

    Attributes:
        kind: "HNSW", a graph, or "FLAT", which compares each question with every vector.
        build: parameters of building it; a graph's `M` and `efConstruction`.
        search: parameters of searching it; a graph's `ef`.
    """

    kind: str
    build: dict[str, int] = field(default_factory=dict)
    search: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.kind == "FLAT":
            return "FLAT"
        return f"{self.kind} with M {self.build['M']} and ef {self.search['ef']}"


GRAPH = Index("HNSW", {"M": 16, "efConstruction": 200}, {"ef": 160})
FLAT = Index("FLAT")
_LADDER = (
    GRAPH,
    Index("HNSW", {"M": 16, "efConstruction": 200}, {"ef": 640}),  # needs no building
    Index("HNSW", {"M": 32, "efConstruction": 200}, {"ef": 640}),
    FLAT,
)


def check_index(choice: str) -> None:
    """Raise KnowledgeBaseError unless `choice` is one of `CHOICES`."""
    if choice not in CHOICES:
        raise KnowledgeBaseError(f'index "{choice}": choose one of {", ".join(CHOICES)}')


def first_index(choice: str, rows: int, dimension: int) -> Index:
    """The index that a version is given before it is known what it finds.

    Args:
        choice: one of `CHOICES`; "auto" is FLAT for a small knowledge base, else HNSW.
        rows, dimension: of its vectors.
    """
    flat = choice == "FLAT" or (choice == "auto" and rows * dimension <= _FLAT_FLOATS)
    return FLAT if flat else GRAPH


def next_index(index: Index) -> Index | None:
    """The index to try where one finds too little; None after FLAT, which finds everything."""
    if index == FLAT:
        return None
    return _LADDER[_LADDER.index(index) + 1] if index in _LADDER else FLAT
