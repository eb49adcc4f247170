"""The tokenised pairs of a run, opened and checked against the model before anything is trained."""

import json
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow.compute as pc

from ragtune.errors import TrainingError
from ragtune.knowledge.passages import Passages
from ragtune.models.rag import RagModel
from ragtune.questions.tokenization import FEATURES, TOKENIZATION_FILE
from ragtune.questions.tokenizer import tokenizer_fingerprint


@dataclass(frozen=True)
class Pairs:
    """The outputs of `ragtune.questions.tokenization.tokenize_pairs`.

    Attributes:
        folder: where it was read from.
        train, validation: with the columns of `ragtune.questions.tokenization.FEATURES`.
        question_tokenizer, generator_tokenizer: fingerprints.
        question_prompt: what stands before every question in its tokens.
        max_question_tokens, max_answer_tokens: lengths that were cut to.
    """

    folder: Path
    train: datasets.Dataset
    validation: datasets.Dataset
    question_tokenizer: str
    generator_tokenizer: str
    question_prompt: str
    max_question_tokens: int
    max_answer_tokens: int

    def check_tokenizers(self, model: RagModel) -> None:
        """Ask whether the tokens are this model's.

        Raises:
            TrainingError: they were made with other tokenizers, or with another prompt before the question.
        """
        for part, wanted, tokenizer in (
            ("question encoder", self.question_tokenizer, model.question_encoder.tokenizer),
            ("generator", self.generator_tokenizer, model.generator.tokenizer),
        ):
            if tokenizer_fingerprint(tokenizer) != wanted:
                raise TrainingError(
                    f"{self.folder}: was tokenised with another tokenizer than that of the model's {part}; run "
                    "tokenize_pairs with this model's tokenizers"
                )
        if self.question_prompt != model.question_encoder.prompt:
            raise TrainingError(
                f'{self.folder}: its questions begin with "{self.question_prompt}", but {model.question_encoder.name} '
                f'wants "{model.question_encoder.prompt}"; run tokenize_pairs with that question_prompt'
            )


def judged_in(split: datasets.Dataset, passages: Passages) -> datasets.Dataset:
    """Questions without their gold ids where none of them names a passage of this corpus.

    Retrieval is then judged by answers in the text, as the evaluation does; SQuAD's contexts name nothing in a corpus
    that was cut otherwise.
    """
    gold_ids = {identifier for row in split["gold_ids"] for identifier in row}
    if not gold_ids or passages.names_any(gold_ids):
        return split
    unknown: list[list[str]] = [[] for _ in range(len(split))]
    return split.remove_columns("gold_ids").add_column("gold_ids", unknown, feature=FEATURES["gold_ids"])


def open_pairs(folder: str | Path) -> Pairs:
    """Open a folder of tokenised pairs.

    Raises:
        TrainingError: it is none, has no question to train on, or a row without an answer.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / TOKENIZATION_FILE).read_text(encoding="utf-8"))
        splits = datasets.load_from_disk(str(folder))
        pairs = Pairs(
            folder,
            splits["train"],
            splits["validation"],
            description["question_tokenizer"],
            description["generator_tokenizer"],
            description["question_prompt"],
            description["max_question_tokens"],
            description["max_answer_tokens"],
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:  # IndexError of a split without a file
        raise TrainingError(f"{folder}: no tokenised pairs ({error!r}); tokenize_pairs writes them") from error
    if not len(pairs.train):
        raise TrainingError(f"{folder}: no question to train on; filter_questions and check_answerability say why")
    for name, split in (("train", pairs.train), ("validation", pairs.validation)):
        _check(f"{folder}/{name}", split)
    return pairs


def _check(place: str, split: datasets.Dataset) -> None:
    if missing := sorted(set(FEATURES) - set(split.column_names)):
        raise TrainingError(f"{place}: no column {', '.join(missing)}; tokenize_pairs writes them")
    for column in ("question_input_ids", "labels"):
        lengths = pc.fill_null(pc.list_value_length(split.data.column(column)), 0)
        if (at := pc.index(lengths, 0).as_py()) >= 0:
            raise TrainingError(f"{place}: row {at} has no {column}; run tokenize_pairs again")
    values = pc.list_flatten(split.data.column("labels"))
    if len(values) and pc.min(values).as_py() < 0:
        raise TrainingError(
            f"{place}: labels hold {pc.min(values).as_py()}; on disk they are the answer's tokens without padding, as "
            "tokenize_pairs writes them"
        )
