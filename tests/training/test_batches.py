import pytest
import torch

from ragtune.training.batches import EpochLoader, QuestionCollator, StepBatches


def steps(batch_size, processes=1, accumulation=1, epoch=0, questions=21):
    """The questions of every step of an epoch, over all processes and accumulated batches."""
    shares = []
    for rank in range(processes):
        batches = StepBatches(questions, batch_size, processes=processes, rank=rank, accumulation=accumulation, seed=7)
        batches.set_epoch(epoch)
        shares.append(list(batches))
        assert len(batches) == len(shares[-1])
    flat = [[share[number] for share in shares] for number in range(len(shares[0]))]
    return [
        [question for batches in flat[start : start + accumulation] for batch in batches for question in batch]
        for start in range(0, len(flat), accumulation)
    ]


@pytest.mark.parametrize(("batch_size", "processes", "accumulation"), [(4, 2, 1), (4, 1, 2), (2, 2, 2), (1, 4, 2)])
def test_a_step_has_the_same_questions_however_it_is_divided(batch_size, processes, accumulation):
    for epoch in range(2):
        assert steps(batch_size, processes, accumulation, epoch) == steps(8, epoch=epoch)


def test_an_epoch_has_every_question_and_fills_its_last_step_from_its_start():
    (first, *_, last) = whole = steps(8)
    assert {question for step in whole for question in step} == set(range(21))
    assert last[5:] == first[:3]


def test_every_epoch_is_shuffled_anew():
    assert steps(8, epoch=0) != steps(8, epoch=1)


def test_fewer_questions_than_a_step_are_repeated():
    (only,) = steps(8, questions=3)
    assert only == [*only[:3], *only[:3], *only[:2]]


def test_a_loader_passes_the_epoch_on_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    loader = EpochLoader(list(range(21)), StepBatches(21, 8, seed=7), collate_fn=list)
    loader.set_epoch(3)
    assert list(loader) == steps(8, epoch=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_is_padded_to_its_longest_question_and_answer():
    rows = [
        {"question_input_ids": [5, 6, 7], "question_attention_mask": [1, 1, 1], "labels": [3, 1]},
        {"question_input_ids": [8], "question_attention_mask": [1], "labels": [4, 2, 1]},
    ]
    rows = [row | {"question": "who?", "gold_ids": ["p1"], "answers": ["it"]} for row in rows]
    batch = QuestionCollator(question_pad_id=9)(rows)
    assert batch["question_input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["question_attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[3, 1, -100], [4, 2, 1]]
    assert batch["gold_ids"] == [["p1"], ["p1"]]
    assert batch["answers"] == [["it"], ["it"]]
