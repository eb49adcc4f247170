"""Flower's simulation engine: server and sites on one machine, in a Ray of the run's own on loopback."""

import logging
from collections.abc import Callable, Sequence

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from joblib import cpu_count

from ragtune.federation.client_app import make_client_app
from ragtune.federation.rounds import Entry, Plan
from ragtune.federation.server import federate
from ragtune.federation.site import Site
from ragtune.federation.weights import Weights
from ragtune.ray_cluster import connected, own_cluster

_OBJECT_STORE_BYTES = 512 << 20  # Ray's shared memory; what does not fit goes to the disk


def simulate(
    plan: Plan, sites: Sequence[Site], start: Weights, on_round: Callable[[Entry], object]
) -> tuple[int, list[Entry]]:
    """Run a federation's rounds, its sites one after another, or one per GPU.

    Args:
        sites: their folders are on this machine.
        plan, start, on_round: as of `federate`; its return and its errors, too.
    """
    outcome: list[tuple[int, list[Entry]]] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        log.setLevel(logging.WARNING)
        outcome.append(federate(grid, plan, start, on_round))

    gpus = torch.cuda.device_count()
    cpus = cpu_count()
    share = {"num_cpus": max(1, cpus // max(1, gpus)), "num_gpus": min(1, gpus)}
    log = logging.getLogger("flwr")
    log.setLevel(logging.ERROR)  # it wants simulations to go by `flwr run`, whose SuperLink outlives a run
    with own_cluster(cpus, gpus, _OBJECT_STORE_BYTES) as ray, connected(ray["address"], ray["token"]):
        run_simulation(server, make_client_app(sites), len(sites), backend_config={"client_resources": share})
    return outcome[0]
