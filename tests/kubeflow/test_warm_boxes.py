"""Boxes as forks of one process: their output, status and end, as those of a process each."""

import json
import os
import signal

import pytest

from ragtune.kubeflow.warm_boxes import WarmBoxes

BOX = """
import os, signal, sys
import time  # no `from ragtune` at the start of a line inside a function: nothing is imported beforehand

def box(do: str):
    exec(do)
"""


@pytest.fixture(scope="module")
def boxes():
    started = WarmBoxes([BOX])
    yield started
    started.end()


def command(do, folder):
    executor_input = {"inputs": {"parameterValues": {"do": do}}, "outputs": {"outputFile": f"{folder}/output.json"}}
    arguments = ["--executor_input", json.dumps(executor_input), "--function_to_execute", "box"]
    return ["sh", "-ec", "the shell's script", BOX, *arguments]


def test_what_a_box_prints_is_printed_here_and_its_status_is_told(boxes, tmp_path, capfd):
    do = "print('one'); os.system('echo two'); print('three', file=sys.stderr); "
    do += "import atexit; atexit.register(os.write, 1, os.environ['OWN'].encode())"  # the last line lacks its end
    assert boxes.run(command(do, tmp_path), {"OWN": "four"}) == 0
    printed = capfd.readouterr().out
    assert all(f"{line}\n" in printed for line in ("one", "two", "three", "four"))
    assert "the shell's script" not in printed


def test_each_box_is_a_process_of_its_own(boxes, tmp_path, capfd):
    boxes.run(command("time.left = 1; os.environ['LEFT'] = 'x'; os.chdir('/'); print('pid', os.getpid())", tmp_path))
    assert boxes.run(command("assert not hasattr(time, 'left') and 'LEFT' not in os.environ", tmp_path)) == 0
    pid = int(capfd.readouterr().out.split("pid ")[1].split()[0])
    assert pid not in (os.getpid(), boxes._process.pid)


@pytest.mark.parametrize(
    ("do", "status"),
    [
        ("raise ValueError('told')", 1),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_a_box_that_fails_takes_no_other_with_it(boxes, tmp_path, capfd, do, status):
    assert boxes.run(command(do, tmp_path)) == status
    if status == 1:
        assert "Traceback" in (printed := capfd.readouterr().out) and "ValueError: told" in printed
    assert boxes.run(command("pass", tmp_path)) == 0


def test_a_box_reads_nothing_that_is_meant_for_the_next(boxes, tmp_path):
    assert boxes.run(command("assert sys.stdin.read() == ''", tmp_path)) == 0
    assert boxes.run(command("pass", tmp_path)) == 0


def test_the_end_of_the_process_is_the_end_of_the_box(tmp_path):
    own = WarmBoxes([BOX])
    assert own.run(command("os.kill(os.getppid(), signal.SIGKILL)", tmp_path)) == -signal.SIGKILL
    assert own.run(command("pass", tmp_path)) == 0, "the run's summary is one more box"
    own.end()


def test_what_boxes_import_is_there_before_the_first_one_starts(tmp_path):
    own = WarmBoxes([BOX + "    from ragtune.uris import shown\n    from ragtune.nowhere import nothing\n"])
    assert own.run(command("assert 'ragtune.uris' in sys.modules and 'torch' not in sys.modules", tmp_path)) == 0
    own.end()
