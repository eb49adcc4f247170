"""The weights that travel: read from a model's folder and written into one, without torch.

A weight's name is its file's folder and its own name there: `generator/encoder.block.0.layer.0.SelfAttention.q.weight`,
`generator/adapter/base_model…lora_A.weight`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ragtune.errors import ModelError, TrainingError
from ragtune.training.methods.base import PARTS

Weights = dict[str, npt.NDArray[np.float32]]
_ADAPTER = "generator/adapter/"
_ENCODERS = {"question_encoder", "passage_encoder"}
_PARTS_OF = {"both": set(PARTS), "retriever": _ENCODERS, "generator": {"generator"}, "adapters": {"generator"}}


def travelling(model_folder: str | Path, average: str, trained: Set[str]) -> list[str]:
    """Names of the weights that are averaged, sorted; of a generator with an adapter, the adapter's alone.

    Args:
        model_folder: any site's or the server's.
        average: one of `ragtune.training.methods.federated.AVERAGES`.
        trained: parts that the sites' method trains.

    Raises:
        TrainingError: there are none.
        ModelError: the folder's weights cannot be read.
    """
    names = {name for file in _files(model_folder) for name in _names(file, model_folder)}
    adapted = any(name.startswith(_ADAPTER) for name in names)
    generator = _ADAPTER if adapted or average == "adapters" else "generator/"
    beginnings = {"generator": generator, **{encoder: f"{encoder}/" for encoder in _ENCODERS}}
    wanted = tuple(beginnings[part] for part in trained & _PARTS_OF[average])
    chosen = sorted(name for name in names if wanted and name.startswith(wanted))
    if not chosen:
        raise TrainingError(
            f"average={average}: the sites train {', '.join(sorted(trained))}, so that nothing of it would travel; "
            "average a part that they train, or take another local_method"
        )
    return chosen


def read_weights(model_folder: str | Path, names: Iterable[str]) -> Weights:
    """The named weights of a model's folder, float32.

    Raises:
        ModelError: one is not there, or not readable as numbers that numpy knows.
    """
    wanted, found = set(names), {}
    for file in _files(model_folder):
        with _opened(file) as stored:
            for own in stored.keys():  # noqa: SIM118 (a safetensors file is no mapping)
                if (name := _name(file, own, model_folder)) in wanted:
                    found[name] = np.ascontiguousarray(_tensor(stored, own, file), np.float32)
    if missing := sorted(wanted - found.keys()):
        raise ModelError(f"{model_folder}: has no weight {missing[0]}; copy the base model's folder whole")
    return found


def write_weights(model_folder: str | Path, weights: Mapping[str, np.ndarray]) -> None:
    """Replace weights in a model's folder, which must hold all of them, file by file."""
    for file in _files(model_folder):
        with _opened(file) as stored:
            names = {own: _name(file, own, model_folder) for own in stored.keys()}  # noqa: SIM118
            if weights.keys().isdisjoint(names.values()):
                continue
            tensors = {
                own: np.ascontiguousarray(weights[name], np.float32) if name in weights else _tensor(stored, own, file)
                for own, name in names.items()
            }
            metadata = stored.metadata()
        new = file.with_name(f".{file.name}")  # the old file may be mapped, or a hard link of another folder's
        save_file(tensors, new, metadata)
        new.replace(file)


def check_same(site: str, own: Mapping[str, tuple[int, ...]], received: Mapping[str, tuple[int, ...]]) -> None:
    """Compare names and shapes of a site's weights with those that it received.

    Raises:
        TrainingError: they differ, with the first that does: the two have different models.
    """
    for name in sorted(own.keys() | received.keys()):
        here, there = own.get(name), received.get(name)
        if here != there:
            raise TrainingError(
                f"site {site}: its model is another than the server's: {name} is {_shown(here)} here and "
                f"{_shown(there)} there; give every site and the server the same base model, and the same lora_rank"
            )


def shapes(weights: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shapes by name."""
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def digest(weights: Mapping[str, np.ndarray]) -> str:
    """128 bits over names, shapes and numbers, as 32 hex digits."""
    found = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(weights.items()):
        found.update(f"{name} {weight.shape} {weight.dtype}\n".encode())
        found.update(np.ascontiguousarray(weight).data)
    return found.hexdigest()


def _shown(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {shape}"


def _files(folder: str | Path) -> Iterator[Path]:
    for part in PARTS:
        yield from sorted(Path(folder, part).rglob("[!.]*.safetensors"))


def _names(file: Path, folder: str | Path) -> list[str]:
    with _opened(file) as stored:
        return [_name(file, own, folder) for own in stored.keys()]  # noqa: SIM118


def _name(file: Path, own: str, folder: str | Path) -> str:
    """Without the file's own name: a large model's weights may be spread over files, there otherwise than here."""
    return f"{file.parent.relative_to(folder).as_posix()}/{own}"


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="np")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: cannot be read as safetensors ({error}); copy the base model again") from error


def _tensor(stored: safe_open, own: str, file: Path) -> np.ndarray:
    try:
        return stored.get_tensor(own)
    except TypeError as error:  # bfloat16
        raise ModelError(
            f"{file}: {own} is of a type that numpy does not know ({error}); save the base model by "
            "ragtune.models.checkpoint.save_model, which writes float32"
        ) from error
