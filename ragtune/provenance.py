"""The code that is running: version, image and git revision, for the lineage of what it makes."""

import os
import subprocess
from pathlib import Path

from ragtune import __version__

IMAGE_VARIABLE = "RAGTUNE_IMAGE"  # both are baked into the images, see images/*/Dockerfile
REVISION_VARIABLE = "RAGTUNE_GIT_REVISION"


def running_code() -> dict[str, str]:
    """`ragtune_version`, `image` and `git_revision` of this process; what is not known is left out.

    The image comes from RAGTUNE_IMAGE; the revision from RAGTUNE_GIT_REVISION, else from the checkout that this code
    runs from.
    """
    known = {
        "ragtune_version": __version__,
        "image": os.environ.get(IMAGE_VARIABLE, ""),
        "git_revision": os.environ.get(REVISION_VARIABLE) or _checkout_revision(),
    }
    return {name: value for name, value in known.items() if value}


def _checkout_revision() -> str:
    """The commit of the checkout that holds this file, with "-dirty" where files differ from it; "" elsewhere."""
    root = Path(__file__).parents[1]
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
