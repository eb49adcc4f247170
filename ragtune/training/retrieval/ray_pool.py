"""Own a knowledge base's Ray actors: `python -m ragtune.training.retrieval.ray_pool ADDRESS FOLDER URI N`.

It is none of the training processes, and ends with the one that started it (`ragtune.companion`), and its actors do.
"""

import secrets
import sys
from typing import Any

from ragtune.companion import announce, announced_errors, wait_for_end
from ragtune.errors import RagtuneError, TrainingError
from ragtune.ray_cluster import NAMESPACE
from ragtune.training.retrieval.ray_searcher import Searcher

_START_SECONDS = 300.0


def main(address: str, folder: str, uri: str, actors: int) -> None:
    """Start the actors in the Ray at an address, announce their `names`, and wait for the end."""
    with announced_errors():
        try:
            handles = _start_actors(address, folder, uri, actors)
        except RagtuneError:
            raise
        except Exception as error:
            raise TrainingError(
                f"Ray: its actors cannot be started ({type(error).__name__}: {error}); retrieval=gather needs none"
            ) from error
    announce({"names": list(handles)})
    wait_for_end()
    import ray

    ray.shutdown()


def _start_actors(address: str, folder: str, uri: str, actors: int) -> dict[str, Any]:
    import ray

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
    address, folder, uri, actors = sys.argv[1:]
    main(address, folder, uri, int(actors))
