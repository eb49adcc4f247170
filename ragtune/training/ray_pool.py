"""The process that owns a run's Ray actors: `python -m ragtune.training.ray_pool FOLDER URI ACTORS`.

It is none of the training processes, and ends with the one that started it (`ragtune.companion`), with all of Ray that
it has started.
"""

import os
import secrets
import sys
import tempfile
from contextlib import ExitStack
from typing import Any

from ragtune.companion import announce, announced_errors, wait_for_end
from ragtune.errors import RagtuneError, TrainingError
from ragtune.training.searcher import Searcher

ADDRESS_VARIABLE = "RAY_ADDRESS"  # Ray's own: of a cluster that is there already
NAMESPACE = "ragtune"
_OBJECT_STORE_BYTES = 80 * 2**20  # Ray wants 75 MiB at least; an answer has a few hundred KiB
_START_SECONDS = 300.0
_OWN_RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too it has all listen on 127.0.0.1 alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_memory_monitor_refresh_ms": "0",  # it would end the actor when it is the training that fills the memory
}


def use_own_ray(token: str) -> None:
    """Have Ray, imported after this, keep to loopback and to those who know the token."""
    os.environ.update(_OWN_RAY, RAY_AUTH_TOKEN=token)


def main(folder: str, uri: str, actors: int) -> None:
    """Start Ray or connect to the cluster at RAY_ADDRESS, start the actors there, and wait for the end.

    Announces `address`, `token` ("" for a cluster) and the actors' `names`, by which `NAMESPACE` knows them.
    """
    with ExitStack() as stack:
        with announced_errors():
            address, token = os.environ.get(ADDRESS_VARIABLE, ""), ""
            try:
                if not address:
                    token = secrets.token_hex(32)
                    temporary = tempfile.TemporaryDirectory(prefix="ragtune-ray-", ignore_cleanup_errors=True)
                    address = _start(token, actors, stack.enter_context(temporary))
                handles = _start_actors(address, folder, uri, actors)
            except RagtuneError:
                raise
            except Exception as error:
                raise TrainingError(
                    f"Ray: its actors cannot be started ({type(error).__name__}: {error}); retrieval=gather needs none"
                ) from error
        announce({"address": address, "token": token, "names": list(handles)})
        wait_for_end()
        import ray

        ray.shutdown()


def _start(token: str, actors: int, temporary: str) -> str:
    use_own_ray(token)
    import ray

    ray.init(
        address="local",
        namespace=NAMESPACE,
        num_cpus=actors,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        configure_logging=False,
        _temp_dir=temporary,
    )
    return ray.get_runtime_context().gcs_address


def _start_actors(address: str, folder: str, uri: str, actors: int) -> dict[str, Any]:
    import ray

    if not ray.is_initialized():
        ray.init(address=address, namespace=NAMESPACE, configure_logging=False)
    # Not detached, so that they go with this process.
    actor: Any = ray.remote(num_cpus=1, max_restarts=-1)(Searcher)
    run = secrets.token_hex(8)
    names = [f"searcher-{run}-{number}" for number in range(actors)]
    handles = {name: actor.options(name=name).remote(folder, uri) for name in names}
    try:
        ray.get([handle.connect.remote() for handle in handles.values()], timeout=_START_SECONDS)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    return handles


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
