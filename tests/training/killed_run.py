"""A run whose last process is killed while the checkpoint of step 12 is being written; started by tests."""

import os
import signal
import sys

from ragtune.training import trainer
from ragtune.training.__main__ import main

save = trainer.RagTrainer._save_rng_state


def save_or_die(self, folder):
    if self.state.global_step == 12 and self.args.process_index == self.args.world_size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, folder)


trainer.RagTrainer._save_rng_state = save_or_die
sys.exit(main(sys.argv[1:]))
