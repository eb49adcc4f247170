"""Claim: on the bundled sample EM after is .60 or more, .40 above closed-book and .15 above before, in under 5 minutes.

    python benchmarks/sample_seeds.py [--params params/demo.yaml ...] [--seeds 0 1 2]

Each run is that of a parameter file once more: other shuffles of the questions, other closed-book baseline, same base.
Every choice (the best step of the model and of the baseline) is made on the sample's validation questions; what is
reported is over its test questions, whose subjects neither training nor validation ask about. The claim is that of
params/demo.yaml; `results/sample_seeds.json` has its runs, `results/sample_<name>.json` those of another file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

from measured import report

ROOT = Path(__file__).parents[1]
DEMO = "params/demo.yaml"
FIGURES = ("em_before", "em_after", "em_closed_book", "f1_after", "recall@1_before", "recall@1_after")
FIGURES += ("recall@5_before", "recall@5_after")
VERSIONS = ("torch", "transformers", "feast", "pymilvus", "milvus-lite", "kfp")


def run(params: str, seed: int, parameters: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        sets = [f"seed={seed}", f"workspace={folder}/workspace", *parameters]
        command = ["pipeline.py", "run", "--params", params, "--output", f"{folder}/run"]
        command += [word for pair in sets for word in ("--set", pair)]
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
        seconds = time.perf_counter() - start
        figures = json.loads(Path(folder, "run", "metrics.json").read_text())
    return {name: figures[name] for name in FIGURES if name in figures} | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", nargs="+", default=[DEMO], metavar="FILE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    for params in options.params:
        measure(params, options.seeds, options.parameters)


def measure(params: str, seeds: list[int], parameters: list[str]) -> None:
    runs = {seed: run(params, seed, parameters) for seed in seeds}
    names = [*runs[seeds[0]]]
    table = [("seed", *names)]
    table += [(str(seed), *(_shown(name, r[name]) for name in names)) for seed, r in runs.items()]
    table += [("mean", *(_shown(name, mean(r[name] for r in runs.values())) for name in names))]
    worst = {
        "em_after": min(r["em_after"] for r in runs.values()),
        "em_after_minus_before": min(r["em_after"] - r["em_before"] for r in runs.values()),
        "seconds": max(r["seconds"] for r in runs.values()),
    }
    if "em_closed_book" in names:
        worst["em_after_minus_closed_book"] = min(r["em_after"] - r["em_closed_book"] for r in runs.values())
    rounded = {seed: {name: round(value, 4) for name, value in r.items()} for seed, r in runs.items()}
    figures = {
        "params": params,
        "seeds": rounded,
        "worst": {name: round(value, 4) for name, value in worst.items()},
        "parameters": parameters,
    }
    report("sample_seeds" if params == DEMO else f"sample_{Path(params).stem}", table, figures, VERSIONS)


def _shown(name: str, value: float) -> str:
    return f"{value:.0f}" if name == "seconds" else f"{value:.3f}"


if __name__ == "__main__":
    main()
