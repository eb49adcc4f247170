"""The boxes of the DAG, one file each: the KFP interface and a few lines that call `ragtune`.

The images are fixed when the pipeline is compiled: `RAGTUNE_DATA_IMAGE` and `RAGTUNE_TRAIN_IMAGE` name others, by
digest or by a tag that never moves, since KFP's cache does not see new code behind a moving tag.
"""

import os

from ragtune import __version__

DATA_IMAGE = os.environ.get("RAGTUNE_DATA_IMAGE", f"ragtune-data:{__version__}")
TRAIN_IMAGE = os.environ.get("RAGTUNE_TRAIN_IMAGE", f"ragtune-train:{__version__}")
