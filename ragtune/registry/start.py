"""The model that a training starts from: the base model, or today's champion."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import RegistryError
from ragtune.registry.champion import keep_champion
from ragtune.registry.connection import local_folder, registry_uri

PARTS = ("question_encoder", "passage_encoder", "generator")


@dataclass(frozen=True)
class Start:
    """A model to train further.

    Attributes:
        parts: names or folders of question encoder, passage encoder and generator, in this pod.
        model: the champion for all boxes, a folder, or its URI in the registry's artifact store where no volume is
            mounted; "" for the base model.
        told: which model it is, in words.
    """

    parts: tuple[str, ...]
    model: str
    told: str

    def handed_on(self) -> tuple[str, ...]:
        """The parts for all boxes, as `models_here` takes them."""
        return tuple(f"{self.model}/{part}" for part in PARTS) if self.model else self.parts


def find_start(values: Mapping[str, Any]) -> Start:
    """Find the model that a run's parameters ask for.

    Without a champion that is the base model, whatever `start_from` says: the first run of a schedule has the
    parameters of all that follow. A champion whose model is gone is an error, since nobody asked for the base model.

    Args:
        values: of all parameters of the pipeline.

    Raises:
        RegistryError: the registry cannot be reached, or the champion's model is gone.
        StorageError: the champion's model cannot be copied into the workspace.
    """
    base, name = tuple(values[part] for part in PARTS), values["model_name"]
    if values["start_from"] == "base":
        return Start(base, "", "the base model")
    models = Path(values["workspace"]).absolute() / "models" / name
    champion = keep_champion(name, registry_uri(values["tracking_uri"], values["workspace"]), models)
    if champion is None:
        return Start(base, "", f'the base model, as no version of "{name}" is champion yet')
    if champion.folder is None or not all((champion.folder / part).is_dir() for part in PARTS):
        problem = champion.problem or f"{champion.folder}: the model is gone, or not whole"
        raise RegistryError(
            f'start_from=champion: version {champion.version} of "{name}" cannot be trained further: {problem}. Bring '
            "its folder back, or set start_from=base"
        )
    parts = tuple(str(champion.folder / part) for part in PARTS)
    stays = values["workspace_volume"] or local_folder(champion.source)
    place = str(champion.folder) if stays else champion.source
    return Start(parts, place, f"the champion, version {champion.version} of {name}, {place}")
