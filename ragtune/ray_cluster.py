"""Belong to a Ray cluster: that at RAY_ADDRESS, or a run's own, `python -m ragtune.ray_cluster CPUS GPUS BYTES`.

That one is a process of its own, which ends with the one that started it (`ragtune.companion`), with all of Ray that it
has started.
"""

import importlib.util
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ragtune.companion import announce, announced_errors, companion, wait_for_end
from ragtune.errors import ClusterError, UnavailableError
from ragtune.knowledge.address import wait_until_listening
from ragtune.locks import IN_USE, locked

NAMESPACE = "ragtune"
_TOKEN_VARIABLE = "RAY_AUTH_TOKEN"  # noqa: S105 (the name of the variable)
ADDRESS_VARIABLE = "RAY_ADDRESS"  # Ray's own: of a cluster that is there already
_ANSWER_WITHIN_SECONDS = 10.0  # Ray itself tries for minutes
_OWN_RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too it has all listen on 127.0.0.1 alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_memory_monitor_refresh_ms": "0",  # it would end the actor when it is the training that fills the memory
}


def own_ray(token: str) -> dict[str, str]:
    """The environment in which Ray, imported after it is set, keeps to loopback and to those who know the token."""
    return _OWN_RAY | {_TOKEN_VARIABLE: token}


@cache
def _own_token() -> str:
    """One for all clusters of this process, one after another: Ray remembers a process's first, and takes no other."""
    if "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") != "token":  # Ray would try for minutes
        raise ClusterError(
            "Ray: it was imported before it was told to ask for a token, so this process cannot belong to a cluster of "
            f"its own; import it later, or set RAY_AUTH_MODE=token before, or {ADDRESS_VARIABLE} to one that runs"
        )
    return os.environ.get(_TOKEN_VARIABLE) or secrets.token_hex(32)


def own_cluster(cpus: int, gpus: int, object_store_bytes: int) -> AbstractContextManager[dict[str, Any]]:
    """Start a Ray of one's own for the context; yields its `address` and `token`.

    Raises:
        ClusterError: it cannot be started, or Ray was imported before.
    """
    os.environ.update(own_ray(_own_token()))  # which the companion inherits
    return companion("ragtune.ray_cluster", str(cpus), str(gpus), str(object_store_bytes))


def given_address() -> str:
    """The address of the cluster to use, RAY_ADDRESS; "" where there is none."""
    return os.environ.get(ADDRESS_VARIABLE, "")


def is_installed() -> bool:
    """Tell whether there is a Ray to import."""
    return importlib.util.find_spec("ray") is not None


def check_address(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for minutes, and then end the process.

    Raises:
        ClusterError: nothing does.
    """
    if address in ("auto", "local"):  # Ray's own words
        return
    try:
        wait_until_listening(address if "://" in address else f"ray://{address}", _ANSWER_WITHIN_SECONDS, what="Ray")
    except (UnavailableError, ValueError) as error:
        raise ClusterError(
            f"{ADDRESS_VARIABLE}={address}: {error}. It is ray://HOST:10001 from outside of the cluster, "
            "HOST:6379 on one of its nodes"
        ) from error


@contextmanager
def connected(address: str, token: str = "") -> Iterator[None]:
    """Belong to the cluster at an address; a process can belong to one only.

    Args:
        address: `given_address`, or of `own_cluster`.
        token: of `own_cluster`; "" leaves Ray its own ways to find one.

    Raises:
        ClusterError: it cannot be reached, or refuses.
    """
    if token:
        os.environ.update(own_ray(token))
    check_address(address)
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    except Exception as error:
        raise ClusterError(f"Ray: cannot be reached at {address} ({type(error).__name__}: {error})") from error
    finally:  # Ray's own would wait for the end of a collective operation, which a lost peer keeps from ending
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def main(cpus: int, gpus: int, object_store_bytes: int) -> None:
    """Start Ray, announce `address` and `token`, and wait for the end."""
    token = _own_token()
    with (
        tempfile.TemporaryDirectory(prefix="ragtune-ray-", ignore_cleanup_errors=True) as temporary,
        locked(Path(temporary) / IN_USE),
    ):
        with announced_errors():
            try:
                address = _start(token, cpus, gpus, object_store_bytes, temporary)
            except Exception as error:
                raise ClusterError(f"Ray: cannot be started ({type(error).__name__}: {error})") from error
        announce({"address": address, "token": token})
        wait_for_end()
        import ray

        ray.shutdown()


def _start(token: str, cpus: int, gpus: int, object_store_bytes: int, temporary: str) -> str:
    os.environ.update(own_ray(token))
    import ray

    ray.init(
        address="local",
        namespace=NAMESPACE,
        num_cpus=cpus,
        num_gpus=gpus,
        include_dashboard=False,
        object_store_memory=object_store_bytes,
        configure_logging=False,
        _temp_dir=temporary,
    )
    return ray.get_runtime_context().gcs_address


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
