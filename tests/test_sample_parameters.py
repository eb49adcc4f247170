"""The parameter files of the bundled sample: each trains what its method says, by the functions that the boxes call."""

from pathlib import Path

import pytest

from pipeline import rag_finetuning
from ragtune.evaluation.asking import ask
from ragtune.evaluation.searched import searched
from ragtune.hub import load_prompt, load_tokenizer
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.kubeflow.parameters import read_parameters
from ragtune.models.checkpoint import load_model, read_description
from ragtune.models.encoders import Encoder
from ragtune.models.rag import RagModel
from ragtune.models.weights import relative_distance
from ragtune.questions.filtering import filter_questions
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.settings.setting import settings_of
from ragtune.settings.training import SHORT_NAMES, Training
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.run import run

ROOT = Path(__file__).parents[1]
SMALL = ("max_questions=40", "max_steps=2", "eval_steps=1", "batch_size=4", "warmup_steps=0")
BOTH = {"question_encoder", "generator"}
LEARN = {"federated": BOTH, "lsr": {"question_encoder"}, "ralt": {"generator"}, "alternate": BOTH, "causal": BOTH}
CUT = {
    "federated": {"rounds": 1, "sites": 2, "strategy_options": {"fraction_evaluate": 0.0}},
    "alternate": {"alternate_every": 1},  # so that two steps hold both turns
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files of the boxes before training, made once of the sample, whose two generators have one tokenizer."""
    values, folder = parameters_of("lsr"), tmp_path_factory.mktemp("made")
    splits = [folder / f"{name}.jsonl" for name in ("train", "validation", "test", "rejected")]
    sources = {f"{split}_uri": ROOT / values[f"{split}_questions"] for split in ("validation", "test")}
    filter_questions(ROOT / values["questions"], *splits, **sources, max_questions=values["max_questions"])
    split_passages(ROOT / values["corpus"], folder / "passages.parquet")
    parts = parts_of(values)
    encoder = parts["question_encoder"]
    ingest_passages(folder / "passages.parquet", folder / "base", Encoder.from_pretrained(encoder, "passage"))
    tokenizers, prompt = (load_tokenizer(encoder), load_tokenizer(parts["generator"])), load_prompt(encoder, "question")
    lengths = {"max_answer_tokens": values["max_answer_tokens"], "question_prompt": prompt}
    tokenize_pairs(*splits[:2], *tokenizers, folder / "pairs", **lengths)
    return folder


def parts_of(values):
    return {part: str(ROOT / values[part]) for part in ("question_encoder", "passage_encoder", "generator")}


def parameters_of(name):
    return read_parameters(rag_finetuning.pipeline_func, ROOT / "params" / f"{name}.yaml", SMALL)


@pytest.mark.parametrize("name", LEARN)
def test_a_parameter_file_trains_the_parts_of_its_method(name, made, tmp_path):
    values = parameters_of(name)
    parts = parts_of(values)
    values["method_options"] = values.get("method_options", {}) | CUT.get(name, {})
    own = {SHORT_NAMES.get(key, key): values[key] for key in settings_of(Training) | {"batch_size": 0} if key in values}
    files = RunFiles(str(made / "pairs"), str(made / "base"), str(tmp_path / "model"), str(tmp_path), **parts)
    own |= {"report_to": "none", "retrieval": "exact", "eval_strategy": "no"}
    run(files, RagTrainingArguments(**own))
    before, after = RagModel.from_parts(**parts), load_model(tmp_path / "model")
    moved = {part for part in parts if relative_distance(getattr(before, part), getattr(after, part)) > 1e-6}
    assert moved == LEARN[name]
    description = read_description(tmp_path / "model")["lineage"]["parameters"]
    assert description["method"] == values["method"]
    with searched(made / "base", after.passage_encoder.fingerprint, "exact") as base:
        assert len(ask(after, base, ["what is the capital of Oman"], num_beams=2).answers) == 1
    assert values["model_name"] == f"ragtune-{name}"
