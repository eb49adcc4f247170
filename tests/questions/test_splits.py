import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import QuestionError
from ragtune.questions.splits import Links, check_split_by, drawn, key_of, places, split_names

GOLDS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), max_size=12)


def links(*texts):
    made = Links()
    for question, own in enumerate(texts):
        made.add(question, own)
    return made


def digests(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), np.uint64)


def test_questions_with_a_key_in_common_are_one_group_over_others_too():
    groups = links(["a"], ["b", "c"], [], ["c", "d"], ["a"], ["e"]).groups()
    assert groups[0] == groups[4]
    assert groups[1] == groups[3]
    assert len({groups[number] for number in (0, 1, 5)}) == 3
    assert 2 not in groups


@given(GOLDS)
def test_groups_equal_connected_components_by_brute_force(golds):
    groups = links(*golds).groups()
    sets = [set(own) for own in golds]
    for _ in sets:
        sets = [set().union(own, *(other for other in sets if own & other)) for own in sets]
    for one, reached in enumerate(sets):
        for other, also in enumerate(sets):
            if reached and also:
                assert (groups[one] == groups[other]) == bool(reached & also)


def test_a_chain_of_100_000_questions_is_one_group():
    groups = links(*([str(number), str(number + 1)] for number in range(100_000))).groups()
    assert len(set(groups.values())) == 1


def test_a_group_stands_at_one_place_and_more_questions_leave_it_there():
    few = links(["a"], ["a"], ["b"])
    many = links(["a"], ["a"], ["b"], ["c"], ["a"], ["d", "e"])
    before, after = places(digests(3), few.groups()), places(digests(6), many.groups())
    assert before[0] == before[1] == after[4] != before[2]
    assert (after[:3] == before).all()


def test_a_question_that_brings_a_group_a_lesser_key_moves_it_as_the_readme_says():
    low, high = sorted("abcdefgh", key=key_of)[:: len("abcdefgh") - 1]
    before = places(digests(2), links([high], ["x"]).groups())
    after = places(digests(3), links([high], ["x"], [high, low]).groups())
    assert after[0] == after[2] != before[0]
    assert after[1] == before[1]


def test_large_groups_fall_to_the_splits_as_often_as_small_ones():
    golds = [[f"{group}-{number}" for number in range(8)] for group in range(4000)]
    place = places(digests(4000), links(*golds).groups())
    assert np.mean(place < 0.1) == pytest.approx(0.1, abs=0.02)


def test_splits_are_as_wide_as_their_shares():
    names = split_names(np.array([0.0, 0.099, 0.1, 0.149, 0.151, 0.999]), {"test": 0.1, "validation": 0.05})
    assert names.tolist() == ["test", "test", "validation", "validation", "train", "train"]


def test_a_draw_is_the_same_in_any_order_and_of_candidates_alone():
    own = digests(100)
    candidates = np.arange(100) % 2 == 0
    chosen = drawn(own, candidates, 10)
    assert chosen.sum() == 10 and not (chosen & ~candidates).any()
    assert (drawn(own[::-1], candidates[::-1], 10)[::-1] == chosen).all()
    assert drawn(own, candidates, 0) is candidates


def test_a_larger_draw_holds_the_smaller_one():
    own = digests(100)
    everyone = np.ones(100, bool)
    assert (drawn(own, everyone, 10) <= drawn(own, everyone, 20)).all()


def test_sharing_is_by_any_key():
    made = links(["a", "b"], ["c"], [], ["b"])
    keys = made.keys(np.array([False, False, False, True]))
    assert keys.tolist() == [key_of("b")]
    assert made.sharing(keys, 4).tolist() == [True, False, False, True]


def test_an_unknown_way_to_split_is_an_error_that_names_the_known_ones():
    with pytest.raises(QuestionError, match="split_by=url: must be one of question, title, gold"):
        check_split_by("url")
