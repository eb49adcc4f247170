"""The ClientApp: a site's answers to the server's messages. `app` is what a SuperNode runs.

A SuperNode's `--node-config` says what the site has, by the names of `ragtune.federation.site.Site`'s attributes with
dashes: `site="berlin" dataset="/data/pairs" knowledge-base="/data/base" model="/data/model" work="/data/work"`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from ragtune.errors import ParameterError
from ragtune.federation.site import Site
from ragtune.settings.setting import unknown

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
SITE = "site"  # record of a site's name and metrics, beside what the strategy reads
_PARTITION = "partition-id"  # of a simulated node


def make_client_app(sites: Sequence[Site] = ()) -> ClientApp:
    """A ClientApp of the given sites, one per simulated node; without any, of the site in the node's configuration."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Train for a round; a site that cannot raises, and the round goes on without it."""
        site, number = _site(context, sites), _round(message)
        if number == 1:
            site.forget()
        trained, metrics = site.train(*_read(message), number)
        arrays = ArrayRecord({name: Array(weight) for name, weight in trained.items()})
        return _reply(message, site, metrics, {"train_loss": metrics["train_loss"]}, {ARRAYS: arrays})

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Evaluate the averaged weights on the site's validation questions."""
        site, number = _site(context, sites), _round(message)
        if number == 0:
            site.forget()
        return _reply(message, site, site.evaluate(*_read(message), number), {}, {})

    return app


def read_site(config: Mapping[str, Any]) -> Site:
    """The site that a SuperNode's configuration describes.

    Raises:
        ParameterError: something is missing, or unknown.
    """
    known = {("site" if field.name == "name" else field.name.replace("_", "-")): field for field in fields(Site)}
    for name in config:
        if name not in known:
            raise ParameterError(f"--node-config: no {name}; {unknown(name, known)}")
    for name, field in known.items():
        if field.default is MISSING and name not in config:
            needed = ", ".join(name for name, field in known.items() if field.default is MISSING)
            raise ParameterError(f"--node-config: {name} is missing; a site needs {needed}")
    return Site(**{known[name].name: value for name, value in config.items()})


def _site(context: Context, sites: Sequence[Site]) -> Site:
    return sites[int(context.node_config[_PARTITION])] if sites else read_site(context.node_config)


def _read(message: Message) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    config = message.content.config_records[CONFIG]
    settings = json.loads(str(config["settings"]))
    if mu := config.get("proximal-mu"):  # FedProx's
        settings["proximal_mu"] = mu
    weights = {name: array.numpy() for name, array in message.content.array_records[ARRAYS].items()}
    return weights, settings, str(config["average"])


def _round(message: Message) -> int:
    """The round's number, which Flower's strategies add; 0 before the first."""
    return int(str(message.content.config_records[CONFIG]["server-round"]))


def _reply(message: Message, site: Site, metrics: dict[str, Any], told: dict[str, float], records: dict) -> Message:
    """The metrics that a strategy reads, which must be the same at all sites, and beside them all that there are."""
    own = ConfigRecord({"name": site.name, "metrics": json.dumps(metrics)})
    record = MetricRecord({"num-examples": int(metrics["questions"]), **told})
    return Message(RecordDict({**records, METRICS: record, SITE: own}), reply_to=message)


app = make_client_app()
