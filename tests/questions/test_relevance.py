from ragtune.questions.normalization import normalize_for_matching
from ragtune.questions.relevance import are_gold, first_rank, hold_answer


def test_a_passage_is_gold_by_any_of_its_sources():
    assert list(are_gold([["w1"], ["w7", "w8"], []], ["w8", "w9"])) == [False, True, False]
    assert not any(are_gold([["w1"]], []))


def test_a_passage_holds_an_answer_on_word_boundaries():
    texts = map(normalize_for_matching, ("I know it.", "", "The answer is: No!"))
    assert list(hold_answer(texts, ["no", "the"])) == [False, False, True]


def test_nothing_is_looked_at_beyond_the_first_that_helps():
    seen = []
    assert first_rank(seen.append(hit) or hit for hit in (False, True, True)) == 2
    assert seen == [False, True]
    assert first_rank([False]) == 0
