"""Write docs/parameters.md, the tables of all settings: python docs/list_parameters.py"""

import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from ragtune.settings.pipeline import PHASES
from ragtune.settings.setting import Setting, settings_of
from ragtune.settings.training import TrainerOptions, TrainingOptions
from ragtune.training.methods import METHODS

PAGE = Path(__file__).with_name("parameters.md")
INTRODUCTION = """\
# Parameters

Generated from `ragtune/settings/` by `python docs/list_parameters.py`: edit the settings, not this page.

A run takes its parameters from a YAML file (`--params`), from the command line (`--set name=value`), or from the KFP
UI. The UI sorts parameters by name, so that in KFP, and in a Python client of KFP's, each name begins with its phase:
`train_max_steps` is `max_steps`. Files and `--set` understand both. All values are checked before the first box
starts, and again by the first box, `check_inputs`."""
OPTIONS = """\
## training_options

One parameter, a mapping: `--set 'training_options={"fully_shard": true}'`. These are arguments of
`python -m ragtune.training` too, as are the parameters under *Training*."""
TRAINERS = """\
### Options of transformers' Trainer

With Trainer's own defaults. Those that have no effect here are refused."""
METHOD_OPTIONS = """\
## method_options

One parameter, a mapping: the settings that only the chosen `method` has."""


def table(settings: Mapping[str, Setting]) -> str:
    """A Markdown row for each setting."""
    rows = ["| parameter | default | must be | meaning |", "|---|---|---|---|"]
    for each in settings.values():
        default = "*needed*" if each.default is MISSING else "" if each.default in ("", None) else f"`{each.default}`"
        cells = (f"`{each.name}`", default, str(each.bound or ""), each.help)
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")  # p(z|x) would end a cell
    return "\n".join(rows)


def page() -> str:
    """The whole of docs/parameters.md."""
    sections = [INTRODUCTION]
    sections += [
        f"## {_words(phase.__name__)}\n\n{phase.__doc__} In KFP: `{word}_…`.\n\n{table(settings_of(phase))}"
        for phase, word in PHASES.items()
    ]
    sections += [OPTIONS, table(settings_of(TrainingOptions)), TRAINERS, table(settings_of(TrainerOptions))]
    sections.append(METHOD_OPTIONS)
    for name, method in METHODS.items():
        options = settings_of(method.options_class)
        sections.append(f"### {name}\n\n{table(options)}" if options else f"`{name}` has none.")
    return "\n\n".join(sections) + "\n"


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r" \1", name).capitalize()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
