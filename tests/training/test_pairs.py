import json
import shutil

import datasets
import pyarrow as pa
import pytest

from ragtune.errors import TrainingError
from ragtune.knowledge.passages import Passages
from ragtune.models.rag import RagModel
from ragtune.training.pairs import judged_in, open_pairs


@pytest.fixture
def copy_with(world, tmp_path):
    """A copy of the world's pairs with the first training row changed."""

    def make(**changes):
        splits = datasets.load_from_disk(world.pairs)
        rows = splits["train"].to_list()
        rows[0] |= changes
        splits["train"] = datasets.Dataset.from_list(rows, features=splits["train"].features)
        splits.save_to_disk(tmp_path / "pairs")
        shutil.copy(f"{world.pairs}/tokenization.json", tmp_path / "pairs")
        return tmp_path / "pairs"

    return make


def test_pairs_of_the_models_tokenizers_are_opened(world):
    pairs = open_pairs(world.pairs)
    pairs.check_tokenizers(RagModel.from_parts(*world.parts.values()))
    assert (len(pairs.train), len(pairs.validation)) == (48, 12)


def test_gold_ids_of_another_corpus_are_left_aside(copy_with):
    split = open_pairs(copy_with(gold_ids=["w7", "text-0"])).train
    passages = Passages(pa.table({"id": ["w7"], "text": ["a"]}))
    assert judged_in(split, passages)["gold_ids"] == split["gold_ids"]
    others = Passages(pa.table({"id": ["no gold id"], "text": ["a"]}))
    judged = judged_in(split, others)
    assert judged["gold_ids"] == [[]] * len(split)
    assert judged.features == split.features and judged["answers"] == split["answers"]


def test_labels_without_a_token_are_refused(copy_with):
    with pytest.raises(TrainingError, match="pairs/train: row 0 has no labels"):
        open_pairs(copy_with(labels=[]))


def test_labels_that_are_padded_are_refused(copy_with):
    with pytest.raises(TrainingError, match="labels hold -100; on disk they are the answer's tokens without padding"):
        open_pairs(copy_with(labels=[-100, -100]))


def test_a_question_without_a_token_is_refused(copy_with):
    with pytest.raises(TrainingError, match="row 0 has no question_input_ids"):
        open_pairs(copy_with(question_input_ids=[]))


def test_no_question_to_train_on_is_refused(world, tmp_path):
    splits = datasets.load_from_disk(world.pairs)
    splits["train"] = splits["train"].select([])
    splits.save_to_disk(tmp_path / "pairs", num_shards={"train": 1, "validation": 1})
    shutil.copy(f"{world.pairs}/tokenization.json", tmp_path / "pairs")
    with pytest.raises(TrainingError, match="no question to train on"):
        open_pairs(tmp_path / "pairs")


def test_a_folder_without_pairs_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"no tokenised pairs .* tokenize_pairs writes them"):
        open_pairs(tmp_path)


@pytest.mark.parametrize("part", ["question encoder", "generator"])
def test_another_tokenizer_is_told_apart(world, copy_with, part):
    folder = copy_with()
    description = json.loads((folder / "tokenization.json").read_text())
    description[f"{part.replace(' encoder', '')}_tokenizer"] = "0" * 64
    (folder / "tokenization.json").write_text(json.dumps(description))
    with pytest.raises(TrainingError, match=f"another tokenizer than that of the model's {part}"):
        open_pairs(folder).check_tokenizers(RagModel.from_parts(*world.parts.values()))


def test_another_question_prompt_is_told_apart(world, copy_with):
    folder = copy_with()
    description = json.loads((folder / "tokenization.json").read_text())
    (folder / "tokenization.json").write_text(json.dumps(description | {"question_prompt": "query: "}))
    with pytest.raises(TrainingError, match=r'begin with "query: ", but .* wants ""'):
        open_pairs(folder).check_tokenizers(RagModel.from_parts(*world.parts.values()))
