"""Where a model comes from: what its registered version carries besides the weights."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragtune import __version__
from ragtune.errors import RegistryError
from ragtune.files import content_hash

IMAGE_VARIABLE = "RAGTUNE_IMAGE"
REVISION_VARIABLE = "RAGTUNE_GIT_REVISION"


def collect_lineage(model_folder: str | Path, given: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Everything known about a model's origin, flat, values as text: `lineage` and `config` of its ragtune.json (nested
    names joined with dots), its encoders, the hash of the folder, ragtune's version, image and git revision, and
    `given`, which wins.

    The image is read from RAGTUNE_IMAGE; the git revision from RAGTUNE_GIT_REVISION, else from the checkout that this
    code runs from; what is not known is left out.

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
        "ragtune_version": __version__,
        "image": os.environ.get(IMAGE_VARIABLE, ""),
        "git_revision": os.environ.get(REVISION_VARIABLE) or _checkout_revision(),
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


def _checkout_revision() -> str:
    """The commit of the checkout that holds this file, with "-dirty" where files differ from it; "" elsewhere."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        return subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
