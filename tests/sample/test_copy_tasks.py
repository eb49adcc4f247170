import pytest

from ragtune.knowledge.passages import Passage
from ragtune.sample.copy_tasks import LONGEST_ANSWER, CopyTasks
from ragtune.sample.word_tokenizer import build_word_tokenizer

PASSAGES = [
    Passage("1", "Malawi", "Malawi is a country. Its capital is Lilongwe. People pay with the kwacha.", ("1",)),
    Passage("2", "Chad", "The capital of Chad is N'Djamena. It is part of Africa. Laws are written in French.", ("2",)),
]
TOKENIZER = build_word_tokenizer(f"{passage.title} {passage.text}" for passage in PASSAGES)
CONTINUE, FILL, FIND = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def examples(shares, count=200, seed=0):
    """(title and text, task, answer), each as a list of tokens."""
    tasks = CopyTasks(TOKENIZER, PASSAGES, seed, shares)
    for _ in range(count):
        prompt, answer = (TOKENIZER.convert_ids_to_tokens(tokens) for tokens in tasks.example())
        assert prompt.pop() == answer.pop() == "</s>"
        slashes = max(at for at, token in enumerate(prompt) if token == "▁/")
        yield prompt[:slashes], prompt[slashes + 2 :], answer


def stands_in(run, tokens):
    return any(tokens[at : at + len(run)] == run for at in range(len(tokens)))


@pytest.mark.parametrize("shares", [CONTINUE, FILL, FIND])
def test_every_answer_is_a_run_of_the_passage(shares):
    for passage, _, answer in examples(shares):
        assert 1 <= len(answer) <= LONGEST_ANSWER
        assert stands_in(answer, passage)


def test_continue_asks_for_what_follows():
    for passage, task, answer in examples(CONTINUE):
        assert stands_in([*task, *answer], passage)


def test_fill_asks_for_what_stands_in_the_blank():
    for passage, task, answer in examples(FILL):
        blank = task.index("▁_")
        assert stands_in([*task[:blank], *answer, *task[blank + 1 :]], passage)


def test_find_does_not_give_the_answer_away_in_order():
    told = sum(stands_in(answer, task) for _, task, answer in examples(FIND))
    assert told < 20


def test_names_are_exchanged_in_every_example_and_consistently():
    seen = set()
    for passage, _, _ in examples(CONTINUE):
        title = passage[: passage.index("▁/")]
        seen.add(tuple(title))
        assert stands_in(title, passage[len(title) :])
    assert len(seen) > 2


def test_punctuation_is_not_exchanged():
    for passage, _, _ in examples(FILL, count=50):
        assert passage.count(".") == 3


def test_the_same_seed_gives_the_same_tasks():
    assert list(examples(FIND, 20, seed=3)) == list(examples(FIND, 20, seed=3))
    assert list(examples(FIND, 20, seed=3)) != list(examples(FIND, 20, seed=4))


def test_a_batch_is_padded():
    batch = CopyTasks(TOKENIZER, PASSAGES).batch(8)
    lengths = batch["attention_mask"].sum(1)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (8, int(lengths.max()))
    for row, length in enumerate(lengths.tolist()):
        assert batch["input_ids"][row, length - 1] == TOKENIZER.eos_token_id
        assert (batch["input_ids"][row, length:] == TOKENIZER.pad_token_id).all()
    assert ((batch["labels"] == -100) | (batch["labels"] > 0)).all()
