"""The search of a training step in Ray actors, outside the training processes."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from ragtune.companion import companion
from ragtune.errors import ClusterError, RagtuneError, TrainingError, UnavailableError
from ragtune.knowledge.retrieved import Retrieved
from ragtune.ray_cluster import ADDRESS_VARIABLE, NAMESPACE, connected, given_address, is_installed, own_cluster
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.distributed.rank_zero import of_first_process
from ragtune.training.retrieval.search import Queries, Retrying, Search

_ANSWER_SECONDS = 600.0  # the actor's own patience with Milvus, several times
_OBJECT_STORE_BYTES = 80 * 2**20  # Ray wants 75 MiB at least; an answer has a few hundred KiB


class RayRetrieval:
    """Asks one of the actors.

    The answer's arrays lie in Ray's shared memory and can only be read. No process waits for another: actors answer
    all who are waiting at once (`ragtune.training.retrieval.ray_searcher`).
    """

    def __init__(self, name: str):
        """Find an actor by its name.

        Raises:
            UnavailableError: there is none of that name now.
        """
        import ray

        self._name = name
        try:
            self._actor: Any = ray.get_actor(name, namespace=NAMESPACE)
        except (ValueError, ray.exceptions.RayError) as error:
            raise self._gone(error) from error

    def search(self, queries: Queries, k: int) -> Retrieved:
        """As `Search.search`.

        Raises:
            UnavailableError: the actor has been killed, and may be started again by Ray.
            KnowledgeBaseError: what the actor's search raised.
        """
        import ray

        try:
            return ray.get(self._actor.search.remote(queries, k), timeout=_ANSWER_SECONDS)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RagtuneError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            raise self._gone(error) from error

    def close(self) -> None:
        """Nothing: the actors belong to another process."""

    def _gone(self, error: Exception) -> UnavailableError:
        reason = str(error).splitlines()[0]
        return UnavailableError(f"the Ray actor {self._name} does not answer ({type(error).__name__}: {reason})")


def check_ray(processes_here: int, processes: int) -> None:
    """Ask whether Ray can serve this run.

    Raises:
        TrainingError: it is not installed, or would have to reach other machines.
    """
    if not is_installed():
        raise TrainingError("retrieval=ray: Ray is not installed; pip install 'ragtune[ray]', or set retrieval=gather")
    if processes > processes_here and not given_address():
        raise TrainingError(
            f"retrieval=ray: {processes} processes on several machines need a Ray cluster that all of them belong to; "
            f"start one and set {ADDRESS_VARIABLE}, or set retrieval=gather"
        )


@contextmanager
def ray_connection(args: RagTrainingArguments) -> Iterator[None]:
    """Belong to the Ray cluster at RAY_ADDRESS, or to one of the run's own; every process must enter it.

    A process can belong to one at a time: who opens several knowledge bases at once enters it around them all.

    Raises:
        TrainingError: Ray cannot be started or reached.
    """
    with ExitStack() as stack:
        cluster = {"address": given_address()}
        # Torch warns that it may not write to an array; nothing does.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        try:
            if not cluster["address"]:
                own = own_cluster(args.retrieval_actors, 0, _OBJECT_STORE_BYTES)
                cluster = stack.enter_context(of_first_process(args.process_index, own))
            stack.enter_context(connected(**cluster))
        except ClusterError as error:
            raise TrainingError(f"{error}; retrieval=gather needs none") from error
        yield


def is_connected() -> bool:
    """Tell whether this process belongs to a Ray cluster."""
    ray = sys.modules.get("ray")  # not imported for this: `own_ray` wants to be set first
    return ray is not None and ray.is_initialized()


@contextmanager
def ray_retrieval(folder: Path, uri: str, args: RagTrainingArguments) -> Iterator[Search]:
    """Actors that search, in the Ray that this process belongs to; every process of a run must enter it.

    Args:
        folder: the knowledge base's, as the actors see it.
        uri: reach its Milvus there; "" where its feature_store.yaml says.
        args: how many actors; an embedded Milvus can have only one.

    Raises:
        KnowledgeBaseError: an actor cannot open the knowledge base.
        TrainingError: the actors cannot be started.
    """
    import ray

    address = ray.get_runtime_context().gcs_address
    pool = companion(
        "ragtune.training.retrieval.ray_pool", address, str(folder.absolute()), uri, str(args.retrieval_actors)
    )
    with of_first_process(args.process_index, pool) as announced:
        names = announced["names"]
        # Each process starts with an actor of its own, and after a failure takes the next one.
        turns = count(args.process_index)
        yield Retrying(lambda: RayRetrieval(names[next(turns) % len(names)]))
