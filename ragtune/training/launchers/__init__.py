"""The places to run a training's processes, by name: what `finetune`'s `launcher` chooses."""

from ragtune.training.launchers.base import Launcher
from ragtune.training.launchers.torchrun import Torchrun
from ragtune.training.launchers.trainjob.launcher import TrainJob

LAUNCHERS: dict[str, type[Launcher]] = {
    "torchrun": Torchrun,
    "trainjob": TrainJob,
}
