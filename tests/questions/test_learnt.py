import numpy as np

from ragtune.questions.learnt import LEARNT_FILE, among, read_learnt, write_learnt


def test_a_question_is_known_again_in_any_spelling(tmp_path):
    write_learnt(tmp_path, ["Who wrote Faust?", "Who was Goethe"])
    keys = read_learnt(tmp_path)
    assert among(["who wrote  faust", "who wrote Werther", "WHO WAS GOETHE?"], keys).tolist() == [True, False, True]


def test_a_question_takes_eight_bytes(tmp_path):
    write_learnt(tmp_path, (f"what is {number}" for number in range(10_000)))
    assert (tmp_path / LEARNT_FILE).stat().st_size < 81_000


def test_a_model_trained_further_has_learnt_from_the_questions_before_too(tmp_path):
    for name in ("first", "second", "third", "unknown"):
        (tmp_path / name).mkdir()
    write_learnt(tmp_path / "first", ["one"])
    write_learnt(tmp_path / "second", ["two"], tmp_path / "first")
    assert among(["one", "two", "three"], read_learnt(tmp_path / "second")).tolist() == [True, True, False]
    write_learnt(tmp_path / "third", ["three"], tmp_path / "unknown")
    assert read_learnt(tmp_path / "third") is None


def test_a_folder_that_tells_nothing_and_a_broken_file_are_unknown(tmp_path):
    assert read_learnt(tmp_path) is None
    (tmp_path / LEARNT_FILE).write_bytes(b"\x93NUMPY")
    assert read_learnt(tmp_path) is None
    np.save(tmp_path / LEARNT_FILE, np.array([{}]), allow_pickle=True)
    assert read_learnt(tmp_path) is None
