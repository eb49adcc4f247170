import io
import tracemalloc

from ragtune.questions.gathered import Gathered, merged
from ragtune.questions.question import Question

FIRST = Question("1", "who", ("x", "b"), ("w1",), "", "f:1", ("text-1",))
OTHER = Question("2", "Who?", ("The B", "c"), ("w1", "w2"), "T", "f:2", ("text-2",))


def digest(number):
    return number.to_bytes(16)


def test_what_two_duplicates_know_is_kept_once_under_the_first_ones_name():
    both = Question("1", "who", ("x", "b", "c"), ("w1", "w2"), "T", "f:1", ("text-1", "text-2"))
    assert merged(FIRST, OTHER) == both


def test_what_a_duplicate_knows_connects_its_question_too():
    gathered = Gathered(io.StringIO())
    for number, passage in enumerate(("w1", "w2", "w3")):
        gathered.add(digest(number), Question(str(number), f"who {number}", ("x",), (passage,)))
    gathered.merge(digest(0), Question("4", "who 0", ("x",), ("w2",), "T"))
    groups = gathered.links["gold"].groups()
    assert groups[0] == groups[1] != groups[2]
    assert 0 in gathered.links["title"].groups()


def test_questions_come_out_in_the_order_of_their_first_coming():
    gathered = Gathered(io.StringIO())
    gathered.add(digest(7), FIRST)
    gathered.add(digest(3), Question("3", "what", ("x",)))
    gathered.merge(digest(7), OTHER)
    gathered.merge(digest(7), Question("4", "who", ("d",)))
    assert [question.answers for question in gathered] == [("x", "b", "c", "d"), ("x",)]
    assert (len(gathered), digest(7) in gathered, digest(8) in gathered) == (2, True, False)
    assert gathered.digests().tolist() == [[0, 7], [0, 3]]


def test_a_question_of_a_million_words_of_answers_takes_few_bytes_of_memory(tmp_path):
    with open(tmp_path / "spill", "w+") as spill:
        gathered = Gathered(spill)
        tracemalloc.start()
        for number in range(2000):
            answers = tuple(f"{number} {place}" for place in range(50))
            gathered.add(digest(number), Question(str(number), "who", answers, (f"w{number}",), "T"))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert held < 2000 * 400


def test_the_same_answers_again_take_no_memory():
    gathered = Gathered(io.StringIO())
    gathered.add(digest(1), FIRST)
    for _ in range(100):
        gathered.merge(digest(1), OTHER)
    (question,) = gathered
    assert question == merged(FIRST, OTHER)
