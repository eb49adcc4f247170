"""The training and the evaluation of a site's round, each called in a process of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from ragtune.federation.site import Site
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.launch import finetune
from ragtune.training.lora import copy_with_adapter
from ragtune.training.pairs import open_pairs
from ragtune.training.prepare import prepare
from ragtune.training.run import TRAINING_LOG, evaluate_model, run


def train(site: Site, settings: Mapping[str, Any], start: str, trained: str) -> dict[str, Any]:
    """Train the model in folder `start` for a round, into `trained`; the metrics.

    A round that was interrupted, and comes again, resumes from its last checkpoint.

    Raises:
        RagtuneError: with the way out.
    """
    pairs = open_pairs(site.dataset)
    parameters = {**settings, "report_to": "none"} | ({} if len(pairs.validation) else {"eval_strategy": "no"})
    files = _files(site, start, trained)
    if site.processes > 1:
        given = {name: value for name, value in vars(files).items() if name != "outcome_file"}  # finetune's own
        results = finetune(**given, processes=site.processes, **parameters)
    else:
        results = run(files, RagTrainingArguments(**parameters))
    log = json.loads(Path(trained, TRAINING_LOG).read_text(encoding="utf-8"))
    validated = {name.removeprefix("last_"): value for name, value in results.items() if name.startswith("last_")}
    validated.pop("step", None)
    return {
        "questions": len(pairs.train),
        "steps": results["steps"],
        "seconds": results["seconds"],
        "train_loss": fmean(entry["loss"] for entry in log if "loss" in entry),
        **validated,
    }


def evaluate(site: Site, settings: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Metrics of the model in a folder on the site's validation questions.

    Raises:
        RagtuneError: with the way out.
    """
    if not len(open_pairs(site.dataset).validation):
        return {"questions": 0}
    return evaluate_model(_files(site, folder, folder), RagTrainingArguments(**{**settings, "report_to": "none"}))


def add_adapter(site: Site, settings: Mapping[str, Any], folder: str, target: str) -> dict[str, Any]:
    """As `copy_with_adapter`.

    Raises:
        RagtuneError: with the way out.
    """
    copy_with_adapter(folder, target, RagTrainingArguments(**{**settings, "report_to": "none"}), site.trust_remote_code)
    return {}


def check(site: Site, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Load all that a round needs, and train nothing.

    Raises:
        RagtuneError: something is missing, or does not go with the rest.
    """
    validates = len(open_pairs(site.dataset).validation) > 0
    given = {**settings, "report_to": "none", "eval_strategy": "steps" if validates else "no"}
    prepare(_files(site, site.model, str(Path(site.work, "trained"))), RagTrainingArguments(**given))
    return {}


def _files(site: Site, model_folder: str, output_folder: str) -> RunFiles:
    return RunFiles(
        dataset_folder=site.dataset,
        knowledge_base_folder=site.knowledge_base,
        output_folder=output_folder,
        work_folder=str(Path(site.work, "training")),
        model_folder=model_folder,
        milvus_uri=site.milvus_uri,
        trust_remote_code=site.trust_remote_code,
    )
