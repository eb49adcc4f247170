"""Loading a transformer from a folder or the hub: safetensors only, and never a weight made up on the way."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ragtune.errors import ModelError
from ragtune.hub import find_file, quiet, split_revision

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def load_pretrained(
    model_class: Any,
    name_or_path: str,
    may_miss: tuple[str, ...] = (),
    *,
    dtype: torch.dtype = torch.float32,
    attn_implementation: str = "",
    **options: Any,
) -> Any:
    """`model_class.from_pretrained`, in evaluation mode, with every doubt raised.

    Transformers itself fills missing weights with random ones and only warns; here that is an error.

    Args:
        model_class: DPRQuestionEncoder, AutoModel, AutoModelForSeq2SeqLM and the like.
        name_or_path: a local folder, or a name on the hub, with @revision behind it if one is meant.
        may_miss: beginnings of the names of weights that nothing here uses.
        dtype: of the weights in memory.
        attn_implementation: "eager", "sdpa", "flash_attention_2"; "" is transformers' own choice.
        options: passed on, such as trust_remote_code and subfolder.

    Raises:
        ModelError: nothing is there, it is no such model, or the weights do not fit it.
    """
    name, revision = split_revision(name_or_path)
    if revision:
        options["revision"] = revision
    if attn_implementation:
        options["attn_implementation"] = attn_implementation
    try:
        with quiet():
            model, loading = model_class.from_pretrained(
                name,
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported below
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        if pickled := _pickled_only(name_or_path, options.get("subfolder", "")):
            raise ModelError(
                f"{name_or_path}: its weights are only there as {pickled}, a pickle, which can run any code when it "
                "is loaded, so ragtune reads safetensors alone. Where you trust the source, convert it once: "
                f'{model_class.__name__}.from_pretrained("{name}").save_pretrained(FOLDER), and name the folder; or '
                f"name a revision that has model.safetensors, such as {name}@refs/pr/1"
            ) from error
        raise ModelError(
            f"{name_or_path}: cannot be loaded as {model_class.__name__}: {error}. A folder needs config.json and "
            "model.safetensors of that architecture"
        ) from error
    place, architecture = f"{name_or_path}: weights", type(model).__name__
    if loading["mismatched_keys"]:
        weight, found, needed = min(loading["mismatched_keys"])
        raise ModelError(
            f"{place} do not fit {architecture}: {weight} is {tuple(found)}, config.json asks for {tuple(needed)}; "
            "configuration and weights come from different models"
        )
    missing = sorted(weight for weight in loading["missing_keys"] if not weight.startswith(may_miss))
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ModelError(
            f"{place} missing for {architecture}: {shown}. It was saved by another architecture, or only in part"
        )
    return model.eval()


def set_attention(backbone: Any, name: str, attn_implementation: str) -> None:
    """Have a loaded transformer compute its attention in another way; "" leaves it as it is.

    Args:
        backbone: of transformers' classes.
        name: of the model, for the error.
        attn_implementation: as for `load_pretrained`.

    Raises:
        ModelError: the model does not have it, or its package is not installed.
    """
    if not attn_implementation:
        return
    way_out = f"install its package, or take an attention that {type(backbone).__name__} has, such as sdpa or eager"
    try:
        with quiet():
            backbone.set_attn_implementation(attn_implementation)
    except (ImportError, ValueError) as error:
        reason = str(error).partition(" Please ")[0].rstrip(".")
        raise ModelError(f"{name}: cannot compute with {attn_implementation} ({reason}); {way_out}") from error
    if backbone.config._attn_implementation != attn_implementation:  # code that came with the model, which only warns
        raise ModelError(f"{name}: its attention cannot be changed to {attn_implementation}; {way_out}")


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off inside the block, as it was behind it."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _pickled_only(name_or_path: str, subfolder: str) -> str:
    """The file of pickled weights where there are no others; "" otherwise."""
    with contextlib.suppress(ModelError):
        if not any(find_file(name_or_path, name, subfolder) for name in _SAFE):
            return next((name for name in _PICKLED if find_file(name_or_path, name, subfolder)), "")
    return ""
