"""The origin of a model, which its registered version carries besides the weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragtune.errors import RegistryError
from ragtune.files import content_hash


def collect_lineage(model_folder: str | Path, given: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Everything known about a model's origin, flat, values as text: `lineage` and `config` of its ragtune.json (nested
    names joined with dots), its encoders, the hash of the folder, and `given`, which wins.

    Version, image and git revision are those that trained the model, as it says itself: the process that registers it
    may run in another image.

    Raises:
        RegistryError: the folder is no model folder.
    """
    description = Path(model_folder) / "ragtune.json"
    try:
        written = json.loads(description.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RegistryError(f"{description}: not readable ({error}); is this a model folder?") from error
    lineage = {
        **flat(written.get("lineage", {})),
        **flat({name: written.get(name, {}) for name in ("config", "encoders")}),
        "model_hash": content_hash(model_folder),
        **flat(given or {}),
    }
    return {name: value for name, value in lineage.items() if value}


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}, "c": [2]} as {"a.b": "1", "c": "[2]"}."""
    pairs: dict[str, str] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            pairs |= flat(value, f"{prefix}{name}.")
        else:
            pairs[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return pairs
