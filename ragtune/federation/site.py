"""A site's work in a round: take over the weights, train or evaluate on its own data, hand back weights or metrics.

Torch is imported in processes of their own (`ragtune.federation.site_training`); models travel there as folders.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import ParameterError, RagtuneError
from ragtune.federation.local import site_settings
from ragtune.federation.own_process import in_own_process
from ragtune.federation.weights import Weights, check_same, read_weights, shapes, travelling, write_weights
from ragtune.files import atomic_path, remove_folder
from ragtune.training.methods.options import make_method

IMPORTS = ("ragtune.federation.site_training",)  # of a process for `call`


@dataclass(frozen=True)
class Site:
    """A site: what it has, and never gives away.

    Attributes:
        name: by which the server and its report know it.
        dataset: folder of tokenised pairs.
        knowledge_base: folder of the knowledge base that it searches.
        model: folder of the base model, the same at every site and at the server.
        work: folder for its rounds; its own weights, where not all travel, outlive a round there.
        milvus_uri: of the knowledge base's Milvus; "" is its feature_store.yaml's.
        settings: of `ragtune.federation.local.SITES_OWN`, as JSON.
        processes: that train, one per GPU.
        trust_remote_code: run code that comes with the model.
    """

    name: str
    dataset: str
    knowledge_base: str
    model: str
    work: str
    milvus_uri: str = ""
    settings: str = "{}"
    processes: int = 1
    trust_remote_code: bool = False

    def train(
        self, received: Weights, settings: Mapping[str, Any], average: str, number: int
    ) -> tuple[Weights, dict[str, Any]]:
        """Train from the received weights for round `number`, from 1.

        A round that comes again, after a restart of the server, trains the weights that do not travel from where the
        round before left them.

        Returns:
            The trained weights that travel, and the metrics: questions, train_loss, steps, seconds, and of the trained
            weights on the site's validation questions em, loss and so on, where it has some.

        Raises:
            RagtuneError: with the site's name and the way out.
        """
        with named(self.name):
            own = self.with_own(settings)
            start, trained = self._take_over(received, own, average, number - 1), Path(self.work, "trained")
            metrics = self._call("train", own, str(start), str(trained))
            weights = read_weights(trained, received)
            if set(received) < set(travelling(trained, "both", _trained(own))):
                with atomic_path(self._own(number)) as kept:
                    shutil.move(trained, kept)
                for old in self._own_rounds() - {number - 1, number}:
                    remove_folder(self._own(old))
            else:
                remove_folder(trained)
            return weights, metrics

    def evaluate(self, received: Weights, settings: Mapping[str, Any], average: str, number: int) -> dict[str, Any]:
        """Metrics of the weights received after round `number` on the site's validation questions.

        Returns:
            questions alone, 0, where it has none.

        Raises:
            RagtuneError: with the site's name and the way out.
        """
        with named(self.name):
            own = self.with_own(settings)
            return self._call("evaluate", own, str(self._take_over(received, own, average, number)))

    def with_own(self, received: Mapping[str, Any]) -> dict[str, Any]:
        """Check the server's settings, and add those that the site has chosen for itself.

        Raises:
            ParameterError: there is no such setting, the site may not choose it, or its own are no JSON object.
        """
        try:
            own = json.loads(self.settings)
        except (TypeError, ValueError) as error:
            raise ParameterError(
                f'settings: {self.settings} is no JSON ({error}); such as {{"retrieval": "exact"}}'
            ) from error
        if not isinstance(own, dict):
            raise ParameterError(f'settings: {self.settings} is no JSON object; such as {{"retrieval": "exact"}}')
        return site_settings(received, own)

    def forget(self) -> None:
        """Drop what an earlier federation has left in the work folder: weights that did not travel."""
        for folder in [Path(self.work, "start"), *map(self._own, self._own_rounds())]:
            if folder.is_dir():
                remove_folder(folder)

    def _call(self, function: str, settings: Mapping[str, Any], *folders: str) -> dict[str, Any]:
        return in_own_process(call, function, asdict(self), dict(settings), *folders, imports=IMPORTS)

    def _own(self, number: int) -> Path:
        """The folder of what a round has trained at this site and does not travel."""
        return Path(self.work, f"own-{number}")

    def _own_rounds(self) -> set[int]:
        return {int(folder.name.removeprefix("own-")) for folder in Path(self.work).glob("own-*")}

    def _take_over(self, received: Weights, settings: Mapping[str, Any], average: str, number: int) -> Path:
        """A model's folder with the received weights, and what else the site has trained itself up to a round."""
        start = Path(self.model)
        if settings.get("lora_rank") and not (start / "generator" / "adapter").is_dir():
            start = Path(self.work, "start")
            if not start.is_dir():
                self._call("add_adapter", settings, self.model, str(start))
        names = travelling(start, average, _trained(settings))
        check_same(self.name, shapes(read_weights(start, names)), shapes(received))
        folder = Path(self.work, "received")
        with atomic_path(folder) as temporary:
            before = [own for own in self._own_rounds() if own <= number]
            shutil.copytree(self._own(max(before)) if before else start, temporary)
            write_weights(temporary, received)
        return folder


def call(function: str, site: dict[str, Any], settings: dict[str, Any], *folders: str) -> dict[str, Any]:
    """A function of `ragtune.federation.site_training`, by name: here, it would have to be imported with torch."""
    from ragtune.federation import site_training

    return getattr(site_training, function)(Site(**site), settings, *folders)


def _trained(settings: Mapping[str, Any]) -> frozenset[str]:
    method = make_method(settings["method"], settings.get("method_options"))
    return method.trains - {part for part in method.trains if settings.get(f"freeze_{part}")}


@contextmanager
def named(site: str) -> Iterator[None]:
    """Have errors begin with the site's name."""
    try:
        yield
    except RagtuneError as error:
        beginning = f"site {site}: "
        if str(error).startswith(beginning):
            raise
        raise type(error)(f"{beginning}{error}") from error
