"""Small cuts of the benchmarks of speed: they run, and both sides do the same work."""

import argparse
import json
import math
import random
import re
from itertools import islice
from pathlib import Path

import pytest
import torch

from ragtune.knowledge.passages import Passage
from ragtune.questions.question import Question

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
QUESTION_WORDS = ("who", "what", "where", "which")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The folder in which the benchmarks leave their results."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import measured

    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    return tmp_path


def test_embedding_beside_sentence_transformers(results, shared_data, minilm):
    import embedding

    embedding.main(["--data", str(shared_data), "--passages", "8", "--pairs", "2", "--batch-size", "4"])
    figures = json.loads((results / "embedding.json").read_text())
    assert figures["ragtune_float32_lowest_cosine"] > 0.9999
    assert figures["ragtune_float32_passages_per_s"] > 0
    assert all(figures[name] >= 0.999 for name in figures if name.endswith("lowest_cosine"))


@pytest.mark.slow
def test_training_beside_feasts_retriever(results, shared_data):
    import training

    sizes = ["--shape", "tiny", "--passages", "200", "--questions", "40", "--batch-size", "4", "--pairs", "1"]
    training.main(["--data", str(shared_data), *sizes, "--warm-up", "1", "--steps", "2"])
    figures = json.loads((results / "training.json").read_text())
    assert figures["times_faster"] == pytest.approx(
        figures["ours_samples_per_s"] / figures["theirs_samples_per_s"], abs=0.01
    )
    for side in ("ours", "theirs"):
        parts = [value for name, value in figures.items() if name.startswith(side) and name.endswith("_seconds")]
        assert len(parts) == 7
        assert figures[f"{side}_processor_seconds_a_step"] > 0
        assert sum(parts) == pytest.approx(4 / figures[f"{side}_samples_per_s_mean"], rel=0.02)


def test_both_sides_of_a_ratio_take_turns_and_its_median_and_range_are_told(results):
    from measured import PAIRS, in_turn, medians, ratio

    seconds, order = iter([1.0, 2.0, 4.0, 4.0, 3.0, 9.0]), []

    def side(name):
        def run():
            order.append(name)
            return {"seconds": next(seconds)}

        return run

    runs = in_turn({"ours": side("ours"), "theirs": side("theirs")})
    assert PAIRS >= 3
    assert order == ["ours", "theirs"] * PAIRS
    assert medians(runs["ours"]) == {"seconds": 3.0}
    faster = ratio(*([run["seconds"] for run in runs[name]] for name in ("theirs", "ours")))
    assert faster.figures("times_faster") == {"times_faster": 2.0, "times_faster_range": [1.0, 3.0]}
    assert str(faster) == "2 (1 to 3)"


@pytest.mark.parametrize(
    "name", ["training", "retrieval", "retriever", "overlap", "generation", "answerability", "embedding"]
)
def test_a_benchmark_of_a_ratio_measures_it_at_least_three_times(name):
    told = re.search(r'"--pairs", type=int, default=(\w+)', (BENCHMARKS / f"{name}.py").read_text())
    assert told[1] == "PAIRS" or int(told[1]) >= 3


def test_a_step_is_split_into_what_each_part_takes_alone(results):
    import time

    from stopwatch import Stopwatch

    watch = Stopwatch("cpu")
    with watch.span("outer"):
        time.sleep(0.02)
        with watch.span("inner"):
            time.sleep(0.05)
    assert watch.seconds["inner"] == pytest.approx(0.05, abs=0.02)
    assert watch.seconds["outer"] == pytest.approx(0.02, abs=0.02)


@pytest.mark.slow
def test_generation_beside_transformers(results):
    import generation

    generation.main(["--questions", "8", "--beams", "2", "--pairs", "1"])
    figures = json.loads((results / "generation.json").read_text())
    assert figures["theirs_unpadded_2_beams_same_answers"] > 0.7
    assert figures["theirs_2_beams_same_answers"] > 0.4
    assert figures["ours_2_beams_per_s"] > 0
    assert figures["questions"] == 8


@pytest.mark.slow
def test_an_overlapped_search_beside_one_that_is_waited_for(results, training_here):
    import overlap

    overlap.main(["--steps", "2", "--questions", "20", "--pairs", "1"])
    figures = json.loads((results / "overlap.json").read_text())
    assert 0 < figures["overlapped_search_fraction"] < 1
    assert math.isclose(figures["overlapped_best_loss"], figures["not_overlapped_best_loss"], rel_tol=0.1)


TEXTS = (
    "Oslo is the capital of Norway. It was founded in 1040 by Harald Hardrada, and has 709,037 inhabitants.",
    "The Sun Also Rises is a novel by Ernest Hemingway about people who travel from Paris to Pamplona in 1925.",
)


def test_a_cloze_question_asks_for_a_name_that_its_passage_says_and_it_does_not(results):
    from reader import cloze_questions

    passages = [Passage(f"p{n}", "", text, (f"p{n}",)) for n, text in enumerate(TEXTS)]
    tasks = list(islice(cloze_questions(passages, random.Random(0)), 300))
    assert {task.row for task in tasks} == {0, 1}
    assert {"1040", "Norway", "Harald Hardrada", "709,037", "Ernest Hemingway", "Pamplona"} <= {t.answer for t in tasks}
    for task in tasks:
        word, *others = task.question.split()
        assert task.answer in TEXTS[task.row]
        assert word in {"1040": ["when"], "1925": ["when"], "709,037": ["how"]}.get(task.answer, QUESTION_WORDS)
        assert task.answer.lower() not in " ".join(others)
        assert set(others) - {"many"} <= set(re.findall(r"\d[\d,]+|\w+", TEXTS[task.row].lower()))


def test_the_reader_starts_out_saying_what_it_looks_at(results, minilm):
    from reader import both_halves_of, reader_tokenizer

    tokenizer = reader_tokenizer(minilm)
    model = both_halves_of(minilm, 4, 1, TEXTS).eval()
    inputs = tokenizer(TEXTS[1], return_tensors="pt")
    with torch.no_grad():
        read = model.encoder(**inputs).last_hidden_state[0]
        start = torch.full((len(read), 1), tokenizer.cls_token_id)
        logits = model.decoder(start, encoder_hidden_states=read[:, None]).logits[:, 0]
    logits[:, tokenizer.cls_token_id] = -torch.inf  # what it has just said itself
    words = slice(1, -1)  # without [CLS] and [SEP]
    assert (logits.argmax(dim=1) == inputs["input_ids"][0])[words].float().mean() > 0.9


@pytest.mark.slow
def test_a_reader_is_trained_saved_and_gone_on_with(results, minilm, tmp_path):
    from reader import train_reader
    from transformers import EncoderDecoderModel

    passages = [Passage(f"p{n}", "", text, (f"p{n}",)) for n, text in enumerate(TEXTS)]
    pairs = [(Question("q", "when was oslo founded", ("1040",)), [(0, "1040")])]
    sizes = {"encoder_layers": 2, "decoder_layers": 1, "max_input_tokens": 64, "reader_batch": 2}
    options = argparse.Namespace(start=None, cloze_steps=3, reader_steps=2, reader_learning_rate=1e-4, **sizes)
    train_reader(tmp_path / "first", minilm, pairs, passages, options)
    first = EncoderDecoderModel.from_pretrained(tmp_path / "first")
    assert (len(first.encoder.encoder.layer), len(first.decoder.bert.encoder.layer)) == (2, 1)
    options.start, options.cloze_steps, options.reader_steps = tmp_path / "first", 0, 1
    train_reader(tmp_path / "second", minilm, pairs, passages, options)
    second = EncoderDecoderModel.from_pretrained(tmp_path / "second")
    moved = [(mine - theirs).abs().max() for mine, theirs in zip(second.parameters(), first.parameters(), strict=True)]
    assert 0 < max(moved) < 1e-3  # one step, and not from the beginning


@pytest.mark.slow
def test_an_ingestion_that_is_killed_harms_no_reader_and_resumes_exactly(results, tmp_path):
    import kill_ingestion

    counts = kill_ingestion.run(tmp_path, kills=1, rows=200)
    assert counts["killed"] == 1 and counts["searches"] > 0
    assert (counts["failed"], counts["wrong"], counts["inexact"]) == (0, 0, 0)


def test_disk_counts_every_part_of_a_workspace(results):
    import disk

    disk.main(["--rows", "300", "--dimension", "16"])
    figures = json.loads((results / "disk.json").read_text())
    assert figures["vectors_bytes"] == 16 * 4  # and a header of 128 bytes, shared by all
    assert figures["embedding_cache_bytes"] > figures["vectors_bytes"]
    assert figures["passages_bytes"] > 600  # 100 words and a title
    assert figures["offline_source_bytes"] > 16 * 4 and figures["milvus_lite_bytes"] > 16 * 4


def test_scaling_tells_every_stage_and_which_grow_faster_than_the_passages(results):
    import scaling

    for rows in (100, 300):
        scaling.main(["--sizes", str(rows), "--dimension", "16"])
    figures = json.loads((results / "scaling.json").read_text())
    assert [size["rows"] for size in figures["sizes"]] == [100, 300]  # what was measured before stays
    for size in figures["sizes"]:
        assert set(size["stages"]) == set(scaling.STAGES) == set(figures["exponents"])
        assert all(stage["seconds"] > 0 and stage["peak_gb"] > 0.05 for stage in size["stages"].values())
        assert (size["recall_at_10"], size["index"]) == (1.0, "FLAT")
    assert scaling.exponent([1, 10, 100], [2, 20, 200]) == pytest.approx(1)
    assert scaling.exponent([50, 200], [3, 48]) == pytest.approx(2)
