"""Loading a transformer from a folder or the hub: float32, safetensors only, and never a weight made up on the way."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging

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


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off inside the block, as it was behind it."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


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
