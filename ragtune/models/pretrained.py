"""Loading a transformer from a folder or the hub: float32, safetensors only, and never a weight made up on the way."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer
from transformers.utils import cached_file, logging

from ragtune.errors import ModelError


def load_pretrained(model_class: Any, name_or_path: str, may_miss: tuple[str, ...] = (), **options: Any) -> Any:
    """`model_class.from_pretrained`, in evaluation mode, with every doubt raised.

    Transformers itself fills missing weights with random ones and only warns; here that is an error.

    Args:
        model_class: DPRQuestionEncoder, AutoModel, AutoModelForSeq2SeqLM and the like.
        name_or_path: a local folder, or a name on the hub.
        may_miss: beginnings of the names of weights that nothing here uses.
        options: passed on, such as trust_remote_code and subfolder.

    Raises:
        ModelError: nothing is there, it is no such model, or the weights do not fit it.
    """
    try:
        with _quiet():
            model, loading = model_class.from_pretrained(
                name_or_path,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported below
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"{name_or_path}: cannot be loaded as {model_class.__name__}: {error}. A folder needs config.json and "
            "model.safetensors of that architecture; older *.bin weights are converted by loading them once with "
            "transformers and calling save_pretrained"
        ) from error
    place, architecture = f"{name_or_path}: weights", type(model).__name__
    if loading["mismatched_keys"]:
        name, found, needed = min(loading["mismatched_keys"])
        raise ModelError(
            f"{place} do not fit {architecture}: {name} is {tuple(found)}, config.json asks for {tuple(needed)}; "
            "configuration and weights come from different models"
        )
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith(may_miss))
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ModelError(
            f"{place} missing for {architecture}: {shown}. It was saved by another architecture, or only in part"
        )
    return model.eval()


def load_tokenizer(name_or_path: str, subfolder: str = "", trust_remote_code: bool = False) -> Any:
    """The tokenizer of a folder or hub repository.

    Transformers itself makes up a tokenizer of five tokens where there is none; here that is an error.

    Raises:
        ModelError: there is no tokenizer, or it is broken.
    """
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                name_or_path, subfolder=subfolder, trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{name_or_path}: its tokenizer cannot be loaded: {error}") from error
    names = set(tokenizer.vocab_files_names.values())  # none for tokenizers of bytes
    if names and not any(_find(name_or_path, name, subfolder) for name in names | {"tokenizer.json"}):
        raise ModelError(
            f"{name_or_path}: no tokenizer: none of {', '.join(sorted(names))} is there; copy the folder whole"
        )
    return tokenizer


def read_json(name_or_path: str, filename: str, subfolder: str = "") -> Any:
    """A JSON file of a local folder or a hub repository; None where there is none.

    Raises:
        ModelError: there is no such folder or repository, or the file is broken.
    """
    path = _find(name_or_path, filename, subfolder)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error}); copy it again") from error


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off inside the block, as it was behind it."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _find(name_or_path: str, filename: str, subfolder: str) -> Path | None:
    if Path(name_or_path).is_dir():
        path = Path(name_or_path, subfolder, filename)
        return path if path.is_file() else None
    try:
        found = cached_file(name_or_path, filename, subfolder=subfolder, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise ModelError(
            f"{name_or_path}: there is no such folder, and the hub gives no such model: {error}"
        ) from error
    return None if found is None else Path(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Transformers' bars and its report of weights, which errors here replace, are off inside the block."""
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
