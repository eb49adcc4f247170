import json
import math

import pytest

from ragtune import strict_json


def test_numbers_that_json_does_not_have_become_null_however_deep():
    value = {"loss": math.nan, "curve": [1.0, {"at": math.inf}, (-math.inf, 2)], "name": "NaN", "flag": True}
    assert json.loads(strict_json.dumps(value), parse_constant=pytest.fail) == {
        "loss": None,
        "curve": [1.0, {"at": None}, [None, 2]],
        "name": "NaN",
        "flag": True,
    }
