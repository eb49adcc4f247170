"""Write pip's configuration of this machine into a file, and print what a build must mount to use it."""

import subprocess
import sys
from pathlib import Path

lines = subprocess.run(
    [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
).stdout.splitlines()
values = {}
for line in sorted(lines, reverse=True):  # "global." first, so that ":env:" wins
    name, _, value = line.partition("=")
    values[name.rsplit(".", 1)[-1]] = value.strip("'\"")
Path(sys.argv[1]).write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
print(f"--volume={sys.argv[1]}:/etc/pip.conf:ro")
words = [word for value in values.values() for word in value.split()]
paths = {Path(word.removeprefix("file://")) for word in words if word.startswith(("/", "file:///"))}
for path in sorted({path.parent if path.name == "simple" else path for path in paths}):  # an index links to ../files
    if path.exists():
        print(f"--volume={path}:{path}:ro")
