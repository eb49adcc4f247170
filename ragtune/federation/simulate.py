"""`method: federated`: a federation on one machine, by Flower's simulation engine, as the training of a run.

The sites train one after another, or one per GPU, in a Ray of the run's own on loopback.
"""

import itertools
import json
from contextlib import closing
from pathlib import Path

from ragtune.errors import TrainingError
from ragtune.federation.curves import Curves
from ragtune.federation.local import shared_settings
from ragtune.federation.outcome import results, write_outcome
from ragtune.federation.rounds import Plan
from ragtune.federation.sites import divide
from ragtune.federation.weights import read_weights, travelling
from ragtune.files import atomic_path
from ragtune.models.checkpoint import save_model
from ragtune.questions.learnt import write_learnt
from ragtune.training.lora import begin_adapter
from ragtune.training.methods.federated import Federated, check_one
from ragtune.training.prepare import Prepared
from ragtune.training.run import MODEL, RESULTS
from ragtune.training.trained import frozen_parts


def train_model(prepared: Prepared) -> None:
    """Train by rounds, into the run's work folder; a killed run resumes behind its last whole round.

    Raises:
        TrainingError: Flower is not installed, there are several processes, or as `ragtune.federation.server.federate`.
    """
    try:
        from ragtune.federation.simulation import simulate
    except ImportError as error:
        raise TrainingError(f"method=federated needs Flower ({error}): pip install 'ragtune[federated]'") from error
    args, files = prepared.args, prepared.files
    method = args.make_method()
    assert isinstance(method, Federated)
    check_one("processes", args.world_size)
    if args.lora_rank:
        begin_adapter(prepared.model.generator, args)
    folder = prepared.work / "federation"
    sites = divide(prepared.pairs, files, folder, method.options.sites, args.seed)
    start = Path(sites[0].model)
    if not start.is_dir():
        save_model(prepared.model, start, prepared.lineage)
    names = travelling(start, method.options.average, method.trains - frozen_parts(args))
    metric, keeps_best = str(args.metric_for_best_model), bool(args.load_best_model_at_end)
    plan = Plan(method.options, shared_settings(args.to_dict()), metric, keeps_best, folder / "rounds")
    with closing(Curves(args.tensorboard_folder or prepared.work / "tensorboard")) as curves:
        best, history = simulate(plan, sites, read_weights(start, names), curves.add)
    with atomic_path(prepared.work / MODEL) as temporary:
        write_outcome(temporary, start, plan, best, history, prepared.lineage, args, trust=files.trust_remote_code)
        asked = (split["question"] for split in (prepared.pairs.train, prepared.pairs.validation))
        write_learnt(temporary, itertools.chain.from_iterable(asked), files.model_folder)
        figures = json.dumps(results(history, best, metric, keeps_best))
        (temporary / RESULTS).write_text(figures, encoding="utf-8")
