"""Claim: on subjects that training never asks about, fine-tuning beats the base and closed-book; three seeds.

    python benchmarks/sample_seeds.py [--seeds 0 1 2] [--set NAME=VALUE ...]

Each seed is a whole run of the demo (`pipeline.py run --params params/demo.yaml`) with a workspace of its own, so that
nothing is taken over from another. The recipe was chosen on the validation questions; the test questions are for this.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

from measured import report

ROOT = Path(__file__).parent.parent
VERSIONS = ("torch", "transformers", "feast", "pymilvus", "milvus-lite", "kfp")
SHOWN = (
    "em_before",
    "em_after",
    "em_closed_book",
    "recall@1_before",
    "recall@1_after",
    "recall@5_before",
    "recall@5_after",
    "seconds_finetune_rag",
    "seconds_evaluate_rag",
    "seconds_all",
)


def run_demo(seed: int, assignments: list[str]) -> dict[str, float]:
    """The figures of one run of the demo."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"seed={seed}", f"workspace={folder}/workspace", *assignments]
        options = [option for setting in settings for option in ("--set", setting)]
        command = [sys.executable, "pipeline.py", "run", "--params", "params/demo.yaml", *options]
        subprocess.run([*command, "--output", f"{folder}/run"], check=True, cwd=ROOT)
        metrics = json.loads((Path(folder) / "run" / "metrics.json").read_text(encoding="utf-8"))
    seconds = sum(value for name, value in metrics.items() if name.startswith("seconds_"))
    return {"seed": seed, "seconds_all": seconds, **metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as of pipeline.py")
    options = parser.parse_args()
    runs = [run_demo(seed, options.set) for seed in options.seeds]
    table = [["", *(f"seed {seed}" for seed in options.seeds), "mean"]]
    for name in SHOWN:
        digits = 0 if name.startswith("seconds") else 3
        values = [run[name] for run in runs]
        table.append([name, *(f"{value:.{digits}f}" for value in [*values, mean(values)])])
    kept = [{name: round(run[name], 4) for name in ("seed", *SHOWN)} for run in runs]
    report("sample_seeds", table, {"set": options.set, "runs": kept}, VERSIONS)


if __name__ == "__main__":
    main()
