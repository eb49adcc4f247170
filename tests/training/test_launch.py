import json
import os
from pathlib import Path

import pytest

from ragtune.errors import KnowledgeBaseError, ParameterError, TrainingError
from ragtune.knowledge.garbage import Search
from ragtune.training import __main__ as process
from ragtune.training.launch import finetune
from ragtune.training.launchers import LAUNCHERS
from ragtune.training.launchers.base import Launcher


class Here(Launcher):
    """Runs in this very process what it is given, and remembers the files."""

    def __init__(self, body=None):
        self.body = body or (lambda file, given: process.main([str(file)]))
        self.files, self.given = [], []

    def run(self, arguments_file, processes):
        self.files.append(arguments_file)
        self.given.append(json.loads(arguments_file.read_text()) | {"processes": processes})
        if self.body(arguments_file, self.given[-1]):
            raise TrainingError("the pod was evicted")


def leave(outcome):
    """Write the outcome of a run that failed, without the run."""

    def body(file, given):
        Path(given["outcome_file"]).write_text(outcome)
        return 1

    return body


@pytest.fixture
def start(world, tmp_path):
    def start(**parameters):
        folders = {"dataset_folder": world.pairs, "knowledge_base_folder": tmp_path}
        folders |= {"output_folder": tmp_path / "model", "work_folder": tmp_path / "workspace" / "training"}
        return finetune(**folders | world.parts | parameters)

    return start


def test_an_unknown_parameter_is_refused_before_anything_starts(start):
    with pytest.raises(TrainingError, match="learning_rat: no such training parameter; did you mean learning_rate"):
        start(learning_rat=1e-3)


def test_the_error_of_the_run_is_raised_here_with_its_own_type(start, tmp_path, capfd):
    with pytest.raises(KnowledgeBaseError, match="no knowledge base there"):
        start(max_steps=1)
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "model").exists()


def test_arguments_and_outcome_travel_in_the_work_folder_which_is_left_empty(start, tmp_path):
    launcher = Here()
    with pytest.raises(KnowledgeBaseError, match="no knowledge base there"):
        start(max_steps=1, batch_size=3, processes=2, launcher=launcher)
    (file,), (given,) = launcher.files, launcher.given
    work = tmp_path / "workspace" / "training"
    assert file.parent.parent == work and file.is_absolute()
    assert given["outcome_file"] == str(file.parent / "outcome.json")
    assert (given["per_device_train_batch_size"], given["processes"]) == (3, 2)
    assert list(work.iterdir()) == []


def test_two_runs_at_once_in_a_work_folder_do_not_take_each_others_outcome(start):
    def other_run_meanwhile(file, given):
        results = start(launcher=Here(lambda file, given: leave('{"results": {"steps": 2}}')(file, given) - 1))
        assert results == {"steps": 2}
        return 1

    with pytest.raises(TrainingError, match="the pod was evicted"):
        start(launcher=Here(other_run_meanwhile))


@pytest.mark.parametrize("left", ["", '{"results": {"ste'], ids=["nothing", "half"])
def test_an_outcome_that_a_killed_run_has_not_written_to_the_end_is_none(start, left):
    with pytest.raises(TrainingError, match="the pod was evicted"):
        start(launcher=Here(leave(left)))


def test_a_run_that_has_published_its_model_has_succeeded_however_its_processes_end(start):
    assert start(launcher=Here(leave('{"results": {"steps": 2}}'))) == {"steps": 2}


def test_of_several_processes_that_fail_the_first_tells_why(tmp_path, capfd):
    given = {"outcome_file": str(tmp_path / "outcome.json")}
    for why in ("the disk is full", "the others are gone"):
        assert process._fail(given, "StorageError", why) == 1
    assert json.loads((tmp_path / "outcome.json").read_text())["message"] == "the disk is full"


def test_a_run_that_ends_well_without_results_is_an_error(start):
    with pytest.raises(TrainingError, match=r"training: the run left no results there; do all its processes see"):
        start(launcher=Here(lambda file, given: 0))


def test_a_secret_is_not_written(start, tmp_path):
    launcher = Here()
    with pytest.raises(ParameterError, match=r"tracking_uri=postgresql://\*\*\*@host/mlflow: holds a secret"):
        start(tracking_uri="postgresql://me:hush@host/mlflow", launcher=launcher)
    with pytest.raises(TrainingError, match="hub_token: no such training parameter"):
        start(hub_token="hush", launcher=launcher)
    assert not launcher.files and not (tmp_path / "workspace").exists()


def test_a_work_folder_that_cannot_be_made_is_named(start, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="file/work: cannot be written"):
        start(work_folder=tmp_path / "file" / "work", launcher=Here())


def test_an_unknown_launcher_is_refused(start):
    with pytest.raises(TrainingError, match=f"launcher=slurm: must be one of {', '.join(LAUNCHERS)}"):
        start(launcher="slurm")


@pytest.mark.usefixtures("own_temporary_folder")
def test_the_folder_of_a_run_that_goes_on_is_no_garbage_however_old_and_that_of_a_killed_one_is(start, tmp_path):
    workspace, found = tmp_path / "workspace", []

    def days_later(file, given):
        for path in [file.parent, *file.parent.iterdir()]:
            os.utime(path, (0, 0))
        found.extend(Search(workspace).run().garbage)
        return 1

    launcher = Here(days_later)
    with pytest.raises(TrainingError):
        start(launcher=launcher)
    assert found == []
    left = launcher.files[0].parent
    left.mkdir()
    os.utime(left, (0, 0))
    assert [item.place for item in Search(workspace).run().garbage] == [str(left)]
