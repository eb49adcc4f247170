"""A run that kills at step 4 its Ray actor, or itself; started by tests.

The processes that it has started by then, and the addresses where they listen, are written to `processes.json` beside
the arguments.
"""

import json
import os
import signal
import sys
from pathlib import Path

import psutil

from ragtune.training.__main__ import main
from ragtune.training.trainer import RagTrainer

begin = RagTrainer.get_batch_samples


def kill_and_begin(self, *args):
    if self.state.global_step == 4 and self.args.process_index == 0:
        started = psutil.Process().children(recursive=True)
        names = {process.pid: process.name() for process in started}
        sockets = [one for process in started for one in process.net_connections("tcp") if one.status == "LISTEN"]
        addresses = [one.laddr.ip.removeprefix("::ffff:") for one in sockets]
        seen = json.dumps({"names": names, "addresses": addresses})
        Path(arguments).with_name("processes.json").write_text(seen)
        actors = [process for process in started if process.name().startswith("ray::Search")]
        assert len(actors) == 1
        if whom == "actor":
            actors[0].kill()
            actors[0].wait()
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return begin(self, *args)


whom, arguments = sys.argv[1:]
RagTrainer.get_batch_samples = kill_and_begin
sys.exit(main([arguments]))
