"""JSON that every parser reads: Python would write NaN and Infinity, which JSON does not have."""

import json
import math
from typing import Any


def finite(value: Any) -> Any:
    """The same value with null in place of every number that is not finite, in lists and mappings too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value


def dumps(value: Any, **options: Any) -> str:
    """As `json.dumps`, of `finite(value)`."""
    return json.dumps(finite(value), allow_nan=False, **options)
