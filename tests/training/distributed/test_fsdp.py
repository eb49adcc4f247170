import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BartForConditionalGeneration

from ragtune.errors import TrainingError
from ragtune.training.arguments import RagTrainingArguments


@pytest.mark.slow
def test_two_halves_compute_what_the_whole_does_and_are_saved_as_one(tmp_path):
    script = str(Path(__file__).parents[1] / "sharded_process.py")
    started = [subprocess.Popen([sys.executable, script, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    generator = BartForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert generator.lm_head.weight is generator.model.shared.weight
    assert not torch.isnan(generator.lm_head.weight).any()


def test_what_does_not_go_with_it_is_said():
    with pytest.raises(TrainingError, match="fully_shard=True: is not possible with torch_compile"):
        RagTrainingArguments(fully_shard=True, torch_compile=True)
