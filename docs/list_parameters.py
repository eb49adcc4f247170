"""Print README.md's table of parameters from the pipeline's signature and docstring: python docs/list_parameters.py"""

import inspect
import sys
from pathlib import Path

from docstring_parser import parse

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline import rag_finetuning


def table() -> str:
    """A Markdown row for each parameter of the pipeline."""
    function = rag_finetuning.pipeline_func
    said = {parameter.arg_name: parameter.description for parameter in parse(function.__doc__).params}
    rows = ["| parameter | default | what it is |", "|---|---|---|"]
    for name, parameter in inspect.signature(function).parameters.items():
        needed = parameter.default is inspect.Parameter.empty
        default = "*needed*" if needed else f"`{parameter.default}`" if parameter.default != "" else ""
        what = (said[name] or "").replace("|", r"\|")  # else p(z|x) would end the cell
        rows.append(f"| `{name}` | {default} | {what} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
