import math
import shutil

import numpy as np
import pytest

from ragtune.errors import TrainingError
from ragtune.federation.rounds import Rounds, best_round, last_round, same_plan, weights_of_round, write_round


def rounds(number, value):
    history = [{"round": n, "sites": {}, "failed": {}, "metrics": {}} for n in range(number + 1)]
    return Rounds(number, {"generator/w": np.full(3, value, np.float32)}, {"m_t:w": np.ones(2)}, history)


def test_the_last_whole_round_is_found_with_all_that_the_next_one_needs(tmp_path):
    assert last_round(tmp_path / "none yet") is None
    for number in (0, 1, 2):
        write_round(tmp_path, rounds(number, number), best=1)
    (tmp_path / ".round-3.abc" / "round-3").mkdir(parents=True)  # of a server that was killed while it wrote
    found = last_round(tmp_path)
    assert (found.number, found.weights["generator/w"].tolist()) == (2, [2, 2, 2])
    assert found.strategy["m_t:w"].tolist() == [1, 1]
    assert [entry["round"] for entry in found.history] == [0, 1, 2]
    assert weights_of_round(tmp_path, 1)["generator/w"].tolist() == [1, 1, 1]


def test_only_the_last_round_and_the_best_are_kept(tmp_path):
    for number in range(4):
        write_round(tmp_path, rounds(number, number), best=min(number, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-1", "round-3"]


def test_a_federation_of_another_plan_is_not_continued(tmp_path):
    same_plan(tmp_path, {"rounds": 4, "strategy": "FedAvg"}, None)
    same_plan(tmp_path, {"rounds": 3, "strategy": "FedAvg"}, None)
    same_plan(tmp_path, {"rounds": 3, "strategy": "FedAvg"}, rounds(0, 0))
    with pytest.raises(TrainingError, match="a federation that differs in strategy; give its own"):
        same_plan(tmp_path, {"rounds": 3, "strategy": "FedAdam"}, rounds(0, 0))
    (tmp_path / "plan.json").write_text('{"rou')
    with pytest.raises(TrainingError, match=r"plan\.json: cannot be read \(.*\); remove .* to begin anew"):
        same_plan(tmp_path, {"rounds": 3, "strategy": "FedAvg"}, rounds(0, 0))


@pytest.mark.parametrize("name", ["weights.safetensors", "strategy.safetensors", "history.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_round_is_named_with_the_one_behind_which_to_resume(tmp_path, name, damage):
    for number in (0, 1):
        write_round(tmp_path, rounds(number, number), best=0)
    path = tmp_path / "round-1" / name
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.unlink()
    if damage == "cut":
        path.write_bytes(half)
    with pytest.raises(TrainingError, match=r"round-1: cannot be read .* this folder to resume behind round 0"):
        last_round(tmp_path)
    shutil.rmtree(path.parent)
    assert last_round(tmp_path).number == 0


def test_the_best_round_is_that_of_the_metric_then_of_the_loss():
    def history(*metrics):
        return [{"round": number, "metrics": each} for number, each in enumerate(metrics)]

    assert best_round(history({"em": 0.2, "loss": 3}, {"em": 0.4, "loss": 2}, {"em": 0.4, "loss": 1}), "em") == 2
    assert best_round(history({"loss": 3}, {"loss": 1}, {"loss": 2}), "loss") == 1
    assert best_round(history({}, {"train_loss": 1}), "em") == 1
    assert best_round(history({"loss": math.nan}, {"loss": 1.0}), "loss") == 1
