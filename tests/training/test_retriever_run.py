"""`params/retriever.yaml` in a small cut: trained, mined again from a refreshed base, left with a base that fits."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from sentence_transformers import SentenceTransformer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ragtune.hub import load_tokenizer
from ragtune.knowledge.exact_base import ExactKnowledgeBase
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.models.checkpoint import knowledge_base_of, load_model
from ragtune.models.encoders import Encoder
from ragtune.questions.filtering import filter_questions
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.run import run

ROOT = Path(__file__).parents[2]
PARTS = ("question_encoder", "passage_encoder", "generator")
SETTINGS = ("method", "method_options", "retrieval", "temperature", "learning_rate", "max_input_tokens")
PASSAGES = 120


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of six steps that waits for the refresh that is begun at the third."""
    folder = tmp_path_factory.mktemp("retriever")
    parameters = yaml.safe_load((ROOT / "params" / "retriever.yaml").read_text(encoding="utf-8"))
    parts = {part: str(ROOT / parameters[part]) for part in PARTS}
    names = ("train", "validation", "test", "rejected")
    questions = [folder / f"{name}.jsonl" for name in names]
    held_out = {f"{split}_uri": ROOT / parameters[f"{split}_questions"] for split in ("validation", "test")}
    filter_questions(ROOT / parameters["questions"], *questions, **held_out, max_questions=100)
    split_passages(ROOT / parameters["corpus"], folder / "corpus.parquet")
    everything = Passages.open(folder / "corpus.parquet")
    Passages(everything.table.slice(0, PASSAGES)).save(folder / "passages.parquet")
    encoder = Encoder.from_pretrained(parts["passage_encoder"], "passage")
    ingest_passages(folder / "passages.parquet", folder / "base", encoder, index="FLAT")
    tokenizers = (load_tokenizer(parts["question_encoder"]), load_tokenizer(parts["generator"]))
    tokenize_pairs(*questions[:2], *tokenizers, folder / "pairs")
    settings = {name: parameters[name] for name in SETTINGS}
    settings["method_options"] |= {"mine_every": 3, "margin": 0.0}
    settings |= {"max_steps": 6, "max_staleness": 3, "eval_steps": 6, "max_eval_questions": 10, "logging_steps": 1}
    settings |= {"per_device_train_batch_size": 8, "n_docs": 5, "tensorboard_folder": str(folder / "events")}
    outputs = {"output_folder": str(folder / "model"), "work_folder": str(folder / "work")}
    outputs |= {"closed_book_folder": str(folder / "no")}
    files = RunFiles(str(folder / "pairs"), str(folder / "base"), **outputs, **parts)
    return folder, run(files, RagTrainingArguments(**settings))


@pytest.mark.slow
def test_it_mines_again_from_a_refreshed_base_and_writes_what_it_found(trained):
    folder, figures = trained
    assert figures["refreshes"] == 1 and figures["steps"] == 6
    events = EventAccumulator(str(folder / "events" / "rag"))
    events.Reload()
    assert [event.step for event in events.Scalars("Hard_Negatives/New_Pairs_Added")] == [0, 4]
    assert [event.step for event in events.Scalars("Dataset/Total_Size")] == [0, 4]
    assert [event.step for event in events.Scalars("Evaluation/Positive_Pair_Similarity")] == [0, 6]
    log = json.loads((folder / "model" / "training_log.json").read_text())
    assert log[-1]["positive_similarity"] > 0
    assert not (folder / "no").exists()  # without a trained generator there is no closed-book baseline


@pytest.mark.slow
def test_sentence_transformers_and_the_knowledge_base_have_the_trained_encoders_vectors(trained):
    folder, _ = trained
    model = load_model(folder / "model")
    texts = ["which country does Etna lie in ?", "a text"]
    for side in ("question_encoder", "passage_encoder"):
        theirs = SentenceTransformer(str(folder / "model" / side), device="cpu").encode(texts)
        np.testing.assert_allclose(theirs, getattr(model, side).encode(texts), atol=1e-5)
    with ExactKnowledgeBase.open(knowledge_base_of(folder / "model")) as base:
        assert base.manifest.encoder_fingerprint == model.passage_encoder.fingerprint
        expected = model.passage_encoder.encode_passages([base.passages[7]])
        found = base.search(expected, 1)
        assert found.rows[0, 0] == 7
        np.testing.assert_allclose(found.embeddings[0], expected, atol=1e-2)
    start = Encoder.from_pretrained(ROOT / "ragtune" / "sample" / "base" / "encoder", "passage")
    assert start.fingerprint != model.passage_encoder.fingerprint
