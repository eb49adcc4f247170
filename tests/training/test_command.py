import json

import pytest

from ragtune.errors import TrainingError
from ragtune.training.__main__ import _leave, main


@pytest.fixture
def words(world, tmp_path):
    files = {"dataset_folder": world.pairs, "knowledge_base_folder": tmp_path, "output_folder": tmp_path / "out"}
    files |= {"work_folder": tmp_path / "work", "temperature": 0.05, **world.parts}
    return [word for name, value in files.items() for word in (f"--{name}", str(value))]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ([], "no knowledge base there"),
        (["--n_docs", "0"], "n_docs=0: must be at least 1"),
        (["--generator", ""], "no base model"),
        (["--generator", "/nowhere"], "/nowhere: "),
    ],
)
def test_an_error_that_a_user_can_mend_is_one_line_and_status_1(words, more, complaint, capsys):
    assert main([*words, *more]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ragtune.training: ")
    assert complaint in line


def test_a_file_of_arguments_that_is_no_json_is_named(tmp_path, capsys):
    (tmp_path / "arguments.json").write_text("{")
    assert main([str(tmp_path / "arguments.json")]) == 1
    assert "arguments.json: cannot be read as JSON" in capsys.readouterr().err


def test_an_error_is_told_where_the_folder_for_the_outcome_is_gone(words, tmp_path, capsys):
    arguments = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    arguments["outcome_file"] = str(tmp_path / "gone" / "outcome.json")
    (tmp_path / "arguments.json").write_text(json.dumps(arguments))
    assert main([str(tmp_path / "arguments.json")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no knowledge base there" in line


def test_an_outcome_that_cannot_be_left_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"gone/outcome.json: the run's outcome cannot be left there"):
        _leave({"outcome_file": str(tmp_path / "gone" / "outcome.json")}, {"results": {}})


def test_an_error_that_nobody_expected_is_told_with_its_traceback(words, tmp_path, capsys, monkeypatch):
    arguments = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    (tmp_path / "arguments.json").write_text(json.dumps(arguments | {"no_such_argument": 1}))
    assert main([str(tmp_path / "arguments.json")]) == 1
    assert "Traceback" in capsys.readouterr().err
