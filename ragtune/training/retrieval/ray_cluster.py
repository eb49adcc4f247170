"""Own a run's Ray where there is no cluster to use: `python -m ragtune.training.retrieval.ray_cluster CPUS`.

It is none of the training processes, and ends with the one that started it (`ragtune.companion`), with all of Ray that
it has started.
"""

import os
import secrets
import sys
import tempfile
from pathlib import Path

from ragtune.companion import announce, announced_errors, wait_for_end
from ragtune.errors import TrainingError
from ragtune.locks import IN_USE, locked

NAMESPACE = "ragtune"
_OBJECT_STORE_BYTES = 80 * 2**20  # Ray wants 75 MiB at least; an answer has a few hundred KiB
_OWN_RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too it has all listen on 127.0.0.1 alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_memory_monitor_refresh_ms": "0",  # it would end the actor when it is the training that fills the memory
}


def own_ray(token: str) -> dict[str, str]:
    """The environment in which Ray, imported after it is set, keeps to loopback and to those who know the token.

    Ray remembers a process's first token, and takes no other.
    """
    return _OWN_RAY | {"RAY_AUTH_TOKEN": token}


def main(cpus: int) -> None:
    """Start Ray, announce `address` and `token`, and wait for the end."""
    token = secrets.token_hex(32)
    with (
        tempfile.TemporaryDirectory(prefix="ragtune-ray-", ignore_cleanup_errors=True) as temporary,
        locked(Path(temporary) / IN_USE),
    ):
        with announced_errors():
            try:
                address = _start(token, cpus, temporary)
            except Exception as error:
                raise TrainingError(
                    f"Ray: cannot be started ({type(error).__name__}: {error}); retrieval=gather needs none"
                ) from error
        announce({"address": address, "token": token})
        wait_for_end()
        import ray

        ray.shutdown()


def _start(token: str, cpus: int, temporary: str) -> str:
    os.environ.update(own_ray(token))
    import ray

    ray.init(
        address="local",
        namespace=NAMESPACE,
        num_cpus=cpus,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        configure_logging=False,
        _temp_dir=temporary,
    )
    return ray.get_runtime_context().gcs_address


if __name__ == "__main__":
    main(int(sys.argv[1]))
