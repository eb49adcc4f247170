"""Title–text pairs of a corpus, to train a retriever where there are no questions."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ragtune.errors import TrainingError
from ragtune.knowledge.passages import Passage
from ragtune.models.inputs import PassageRows

if TYPE_CHECKING:
    from ragtune.models.encoders import Encoder


class Untitled:
    """Passages by row without their titles, which would give the answer away."""

    def __init__(self, passages: PassageRows):
        self._passages = passages

    def __len__(self) -> int:
        return len(self._passages)

    def __getitem__(self, row: int, /) -> Passage:
        return replace(self._passages[row], title="")

    def __iter__(self) -> Iterator[Passage]:
        return (replace(passage, title="") for passage in self._passages)


def title_pairs(passages: PassageRows, encoder: "Encoder", max_tokens: int) -> Any:
    """Tokenised pairs, as `tokenize_pairs` makes them of questions: a title asks for the passages under it.

    Args:
        passages: of the knowledge base.
        encoder: the question encoder.
        max_tokens: longest title; what is longer is cut.

    Returns:
        A `datasets.Dataset` with the columns of `FEATURES`, a row per distinct title.

    Raises:
        TrainingError: no passage has a title, or all have the same one.
    """
    import datasets

    from ragtune.questions.tokenization import FEATURES

    ids: dict[str, list[str]] = {}
    for passage in passages:
        if title := passage.title.strip():
            ids.setdefault(title, []).append(passage.id)
    if len(ids) < 2:
        found = "no title" if not ids else "one title only"
        raise TrainingError(
            f"pairs=titles: the {len(passages):,} passages of the knowledge base have {found}; give a corpus with a "
            'column "title", or set pairs=questions'
        )
    titles = list(ids)
    tokens = encoder.tokenizer([encoder.prompt + title for title in titles], truncation=True, max_length=max_tokens)
    columns: dict[str, list[Any]] = {
        "id": [f"title-{number}" for number in range(len(titles))],
        "question": titles,
        "answers": [[] for _ in titles],
        "gold_ids": list(ids.values()),
        "question_input_ids": tokens["input_ids"],
        "question_attention_mask": tokens["attention_mask"],
        "labels": [[0] for _ in titles],  # of the generator, which takes no part
    }
    return datasets.Dataset.from_dict(columns, FEATURES)
