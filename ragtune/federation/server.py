"""The server's rounds: hand out the weights, average what the sites give back, and keep each round on disk.

Flower's `Strategy.start` begins at round 1, and tells neither which site failed nor one site's metrics; so the rounds
are run here, by the same four methods of the strategy.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from ragtune.errors import TrainingError
from ragtune.federation.client_app import SITE
from ragtune.federation.local import round_settings
from ragtune.federation.rounds import Entry, Plan, Rounds, best_round, last_round, same_plan, write_round
from ragtune.federation.strategies import make_strategy, restore, state_of
from ragtune.federation.weights import Weights, digest
from ragtune.progress import say
from ragtune.training.checkpointing.fingerprint import effective

_POLL_SECONDS = 0.5
_REJOIN_SECONDS = 60.0  # within which sites come back to a server that was started again
_REASON = re.compile(r"(?:Message: |^<class '[\w.]+'>:<')(.*?)'?>?$", re.S)  # Flower's words around an exception


def federate(
    grid: Grid, plan: Plan, start: Weights, on_round: Callable[[Entry], object] = id
) -> tuple[int, list[Entry]]:
    """Run the rounds that are not on disk yet.

    Args:
        grid: Flower's, to the sites.
        plan: what to do.
        start: the base model's weights that travel.
        on_round: is given each round's entry of the history, those of earlier starts too.

    Returns:
        The round to take the model from, whose weights are on disk, and the history of all rounds.

    Raises:
        TrainingError: too few sites are connected or give weights back, or the rounds on disk are of another plan.
    """
    options = plan.options
    strategy = make_strategy(options.strategy, options.strategy_options, options.min_sites)
    names: dict[int, str] = {}
    rounds = last_round(plan.folder)
    whole = {**asdict(options), "settings": effective(plan.shared), "base": digest(start)}
    of_one_start = {"min_sites", "round_seconds"}  # these may differ from start to start
    same_plan(plan.folder, {name: value for name, value in whole.items() if name not in of_one_start}, rounds)
    if rounds is None:
        _wait_for(grid, options.sites, options.round_seconds, options.sites)
        rounds = Rounds(0, start)
        rounds.history.append(_evaluated(grid, plan, strategy, rounds, names, {}, {}))
        write_round(plan.folder, rounds, 0)
    else:
        say(f"federation: resuming behind round {rounds.number} of {options.rounds}")
        restore(strategy, rounds.strategy)
        if rounds.number < options.rounds:
            _wait_for(grid, options.sites, min(options.round_seconds, _REJOIN_SECONDS), 0)
    for entry in rounds.history:
        on_round(entry)
    while rounds.number < options.rounds:
        rounds = _next_round(grid, plan, strategy, rounds, names)
        write_round(plan.folder, rounds, best_round(rounds.history, plan.metric))
        on_round(rounds.history[-1])
    best = best_round(rounds.history, plan.metric) if plan.keeps_best else rounds.number
    return best, rounds.history


def _next_round(grid: Grid, plan: Plan, strategy: Any, rounds: Rounds, names: dict[int, str]) -> Rounds:
    options, number = plan.options, rounds.number + 1
    _wait_for(grid, options.min_sites, options.round_seconds, options.min_sites)
    config = _config(plan, number)
    messages = strategy.configure_train(number, _record(rounds.weights), config, _Connected(grid))
    replies, failed = _ask(grid, messages, names, options.round_seconds, f"round {number}")
    sites = {_site_of(reply)[0]: _site_of(reply)[1] for reply in replies}
    if len(replies) < options.min_sites:
        raise TrainingError(
            f"round {number}: {len(replies)} sites gave weights back, and min_sites={options.min_sites}; "
            + "; ".join(failed[name] for name in sorted(failed))
            + f". The same start resumes behind round {rounds.number}"
        )
    arrays, _ = strategy.aggregate_train(number, replies)
    if arrays is None:
        raise TrainingError(
            f"round {number}: strategy={options.strategy} made no average of {len(replies)} sites, as Flower's log "
            "above says; it needs more of them, or other strategy_options"
        )
    weights = {name: np.ascontiguousarray(array.numpy(), np.float32) for name, array in arrays.items()}
    done = Rounds(number, weights, state_of(strategy), rounds.history)
    entry = _evaluated(grid, plan, strategy, done, names, sites, failed)
    return Rounds(number, weights, done.strategy, [*rounds.history, entry])


def _evaluated(
    grid: Grid,
    plan: Plan,
    strategy: Any,
    rounds: Rounds,
    names: dict[int, str],
    sites: dict[str, dict[str, float]],
    failed: dict[str, str],
) -> Entry:
    """The round's entry, with the sites' metrics of the averaged weights."""
    config = _config(plan, max(rounds.number, 1))
    messages = strategy.configure_evaluate(rounds.number, _record(rounds.weights), config, _Connected(grid))
    replies, silent = _ask(grid, messages, names, plan.options.round_seconds, f"evaluation of round {rounds.number}")
    validated = dict(_site_of(reply) for reply in replies)
    trained = {site: {_of_training(name): value for name, value in metrics.items()} for site, metrics in sites.items()}
    both = {site: trained.get(site, {}) | validated.get(site, {}) for site in sorted(trained.keys() | validated.keys())}
    means = _means(trained, "training_questions") | _means(validated, "questions")
    entry = {"round": rounds.number, "sites": both, "failed": {**silent, **failed}, "metrics": means}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in means.items() if name in ("train_loss", "loss", "em"))
    say(f"federation: round {rounds.number} of {plan.options.rounds}: {len(both)} sites, {shown}")
    return entry


def _of_training(name: str) -> str:
    """A metric of a site's own weights, before they were averaged."""
    if name in ("train_loss", "steps", "seconds"):
        return name
    return "training_questions" if name == "questions" else f"own_{name}"


def _means(by_site: Mapping[str, Mapping[str, float]], weight: str) -> dict[str, float]:
    """Means over the sites, by their numbers of questions; of each metric over those that have it."""
    weighted = [(metrics, metrics.get(weight, 0)) for metrics in by_site.values()]
    names = dict.fromkeys(name for metrics, questions in weighted if questions for name in metrics)
    means = {}
    for name in names:
        if name not in (weight, "steps", "seconds"):
            known = [(metrics[name], questions) for metrics, questions in weighted if questions and name in metrics]
            means[name] = sum(value * questions for value, questions in known) / sum(count for _, count in known)
    return means


def _config(plan: Plan, number: int) -> ConfigRecord:
    settings = json.dumps(round_settings(plan.shared, plan.options, number))
    return ConfigRecord({"settings": settings, "average": plan.options.average})


def _record(weights: Weights) -> ArrayRecord:
    return ArrayRecord({name: Array(weight) for name, weight in sorted(weights.items())})


def _ask(
    grid: Grid, messages: Iterable[Message], names: dict[int, str], seconds: float, what: str
) -> tuple[list[Message], dict[str, str]]:
    """Send messages; the good replies, and why the other sites gave none, by name."""
    asked = list(messages)
    replies = list(grid.send_and_receive(asked, timeout=seconds))
    good = [reply for reply in replies if not reply.has_error()]
    for reply in good:
        names[reply.metadata.src_node_id] = _site_of(reply)[0]
    called = [names[reply.metadata.src_node_id] for reply in good]
    if twice := sorted(name for name in set(called) if called.count(name) > 1):
        raise TrainingError(f"{what}: two sites are called {twice[0]}; give each SuperNode a site of its own name")
    failed = {}
    for message in asked:
        node = message.metadata.dst_node_id
        answer = next((reply for reply in replies if reply.metadata.src_node_id == node), None)
        if answer is None or answer.has_error():
            late = f"no answer within {seconds:g} seconds"
            reason = late if answer is None else _plain(answer.error.reason or "it does not say why")
            name = names.get(node) or _name_in(reason) or f"node {node}"
            failed[name] = reason if reason.startswith("site ") else f"site {name}: {reason}"
            say(f"warning: federation: {what}: {failed[name]}")
    return good, failed


def _plain(reason: str) -> str:
    """An error's own words, without Flower's around them."""
    match = _REASON.search(reason)
    return " ".join((match[1] if match else reason).split())


def _name_in(reason: str) -> str:
    match = re.match(r"site (\S+): ", reason)
    return match[1] if match else ""


def _site_of(reply: Message) -> tuple[str, dict[str, float]]:
    record = reply.content.config_records[SITE]
    return str(record["name"]), json.loads(str(record["metrics"]))


class _Connected:
    """The grid that a strategy chooses sites from, in which it would otherwise wait for missing ones for ever."""

    def __init__(self, grid: Grid):
        self.grid, self.end = grid, time.monotonic() + _REJOIN_SECONDS

    def get_node_ids(self) -> Iterable[int]:
        """The connected sites.

        Raises:
            TrainingError: the strategy has asked for a minute.
        """
        found = list(self.grid.get_node_ids())
        if time.monotonic() > self.end:
            raise TrainingError(
                f"{len(found)} sites are connected, and the strategy waits for more; start flower-supernode at the "
                "others, or lower min_sites, or the strategy's own min_…_nodes. The same start resumes behind the last "
                "whole round"
            )
        return found


def _wait_for(grid: Grid, sites: int, seconds: float, needed: int) -> None:
    """Wait until enough sites are connected; Flower's own strategies would wait for ever.

    Args:
        sites: how many are waited for.
        seconds: how long at most.
        needed: how many of them will do then.

    Raises:
        TrainingError: fewer are connected.
    """
    end, told = time.monotonic() + seconds, False
    while (connected := len(list(grid.get_node_ids()))) < sites:
        if time.monotonic() > end:
            if connected >= needed:
                return
            raise TrainingError(
                f"{connected} of {sites} sites are connected after {seconds:g} seconds; start flower-supernode at the "
                "others, or lower sites or min_sites"
            )
        if not told:
            say(f"federation: waiting for {sites} sites, {connected} connected")
            told = True
        time.sleep(_POLL_SECONDS)
