import subprocess
import sys

_PROGRAM = """
import typeguard
real = typeguard.typechecked
import ragtune.knowledge.feast_names
from feast import FeatureView
print("typeguard" in FeatureView.__init__.__code__.co_names, typeguard.typechecked is real)
"""


def test_feast_is_imported_without_typeguard_which_is_as_it_was_afterwards():
    found = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True"]
