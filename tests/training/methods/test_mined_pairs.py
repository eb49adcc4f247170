"""The draw of a step, and what is counted and kept of what was mined."""

import numpy as np

from ragtune.training.methods.mined_pairs import MinedPairs


def make_pairs(seed=0):
    pairs = MinedPairs(["a", "b", "c"], trained=2, hardest=4, seed=seed)
    pairs.positives = [[0, 1], [2], [3]]
    for number in range(3):
        pairs.replace(number, range(10 * (number + 1), 10 * (number + 1) + 6))
    return pairs


def test_a_draw_is_the_same_in_every_process_and_another_in_every_step():
    pairs = make_pairs()
    both = pairs.draw(pairs.numbers(["b", "a"]), 2, step=5)
    apart = [pairs.draw(pairs.numbers([text]), 2, step=5) for text in "ba"]
    np.testing.assert_equal(both, np.concatenate(apart))
    draws = {tuple(pairs.draw([0], 2, step)[0].tolist()) for step in range(40)}
    assert {row for draw in draws for row in draw} == {0, 1, 10, 11, 12, 13}  # all positives, of negatives the hardest
    assert any((make_pairs(1).draw([0], 2, step) != pairs.draw([0], 2, step)).any() for step in range(5))


def test_a_question_that_validates_keeps_its_hardest_negatives():
    pairs = make_pairs()
    assert [pairs.draw([2], 2, step).tolist() for step in (0, 1)] == [[[3, 30, 31]]] * 2


def test_a_question_with_fewer_negatives_is_padded_and_one_without_a_positive_is_nothing():
    pairs = make_pairs()
    pairs.replace(0, [7])
    pairs.positives[2] = []
    assert sorted(pairs.draw([0], 3, 0)[0, 1:].tolist()) == [-1, -1, 7]
    assert pairs.draw([0], 3, 0)[0, 1] == 7
    assert pairs.draw([2], 3, 0).tolist() == [[-1, -1, -1, -1]]


def test_pairs_are_new_once_and_are_remembered(tmp_path):
    pairs = make_pairs()
    assert pairs.count_new() == 8  # of the two that are trained on
    pairs.replace(0, [10, 99])
    assert (pairs.count_new(), pairs.count_new()) == (1, 0)
    assert pairs.size == 3 + 9
    pairs.base_step = 7
    pairs.save(tmp_path / "mined.npz")
    again = make_pairs()
    again.load(tmp_path / "mined.npz")
    assert (again.count_new(), again.base_step) == (0, 7)
    np.testing.assert_equal(again.negatives, pairs.negatives)
