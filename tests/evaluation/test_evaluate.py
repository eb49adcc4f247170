import contextlib
import io
import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")
pytest.importorskip("pymilvus")

from tiny_models import save_tiny_parts

from ragtune.errors import EvaluationError, KnowledgeBaseError
from ragtune.evaluation import sides
from ragtune.evaluation.asking import ask
from ragtune.evaluation.champion import Champion
from ragtune.evaluation.evaluate import evaluate
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.passages import Passages
from ragtune.kubeflow.run_folder import table
from ragtune.models.checkpoint import knowledge_base_of, load_model, save_model
from ragtune.models.encoders import Encoder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.questions.learnt import write_learnt
from ragtune.questions.question import SHARED

LANDS = 40
QUESTIONS = [f"what is the capital of land{n}" for n in range(24)]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A corpus of 40 passages, its knowledge base, a base model, a model that differs from it, and 24 questions.

    The model's own answer is a reference of every second question, so its EM is known.
    """
    folder = tmp_path_factory.mktemp("world")
    texts = [f"The capital of land{n} is city{n}." for n in range(LANDS)]
    ids = [f"w{n}" for n in range(LANDS)]
    table = pa.table({"id": ids, "title": [f"Land{n}" for n in range(LANDS)], "text": texts})
    Passages(table).save(folder / "passages.parquet")
    base = save_tiny_parts(folder / "base", texts + QUESTIONS, seed=0)
    other = save_tiny_parts(folder / "other", texts + QUESTIONS, seed=1)
    encoder = Encoder.from_pretrained(base[1], "passage")
    ingest_passages(folder / "passages.parquet", folder / "kb", encoder)

    config = RagConfig(n_docs=3, temperature=8.0)
    model = RagModel.from_parts(other[0], base[1], other[2], config)
    save_model(model, folder / "model", {"parameters": {"learning_rate": 3e-5}})
    (folder / "model" / "training_log.json").write_text(
        json.dumps([{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0}])
    )
    save_model(RagModel.from_parts(*base, config), folder / "closed_book")
    with KnowledgeBase.open(folder / "kb") as knowledge_base:
        own_answers = ask(model, knowledge_base, QUESTIONS, num_beams=2).answers
    with open(folder / "test.jsonl", "w") as stream:
        for n, question in enumerate(QUESTIONS):
            answers = [f"city{n}"] + ([own_answers[n]] if n % 2 else [])
            row = {"id": f"q{n}", "question": question, "answers": answers, "gold_ids": [f"w{n}"]}
            stream.write(json.dumps(row | {"overlap": ["title", "gold"] if n < 2 else ["title"] * (n == 2)}) + "\n")
    (folder / "rejected.jsonl").write_text('{"reason": "yes_no"}\n{"reason": "yes_no"}\n{"reason": "empty"}\n')
    return folder


@pytest.fixture(scope="session")
def evaluated(world, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated") / "evaluation"
    with contextlib.redirect_stderr(io.StringIO()) as log:
        metrics = run(world, output, closed_book_folder=world / "closed_book", rejected_path=world / "rejected.jsonl")
    (output.parent / "log.txt").write_text(log.getvalue())
    return output, metrics


@pytest.fixture(scope="session")
def champion(world, tmp_path_factory):
    """A model with another passage encoder, and so with a knowledge base of its own, of the last 30 passages."""
    folder = tmp_path_factory.mktemp("champion")
    parts = [world / "other" / part for part in ("question_encoder", "passage_encoder", "generator")]
    model = RagModel.from_parts(*parts, RagConfig(n_docs=2, temperature=8.0))
    Passages(Passages.open(world / "passages.parquet").table.slice(10)).save(folder / "passages.parquet")
    manifest = ingest_passages(folder / "passages.parquet", folder / "kb", model.passage_encoder)
    ingest_passages(world / "passages.parquet", folder / "kb", model.passage_encoder)  # serves another version by now
    its_base = {"path": str(folder / "kb"), "version": manifest.version, "content_hash": manifest.content_hash}
    save_model(model, folder / "model", {"knowledge_base": its_base})
    return Champion("7", folder / "model")


def run(world, output, **changes):
    parts = tuple(str(world / "base" / part) for part in ("question_encoder", "passage_encoder", "generator"))
    inputs = {"model_folder": world / "model", "base_parts": parts, "questions_path": world / "test.jsonl"}
    inputs |= {"knowledge_base_folder": world / "kb", "output_folder": output}
    return evaluate(**(inputs | changes))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_overlap_with_training_is_counted_and_told_in_the_report(evaluated):
    output, metrics = evaluated
    shared = {name: metrics[f"test_sharing_{name}"] for name in ("title", "gold", "question")}
    assert shared == {"title": 3, "gold": 2, "question": 0}
    told = "Of the held-out questions 3 share a document, 2 share a gold passage with a training question"
    assert told in (output / "report.html").read_text()


def test_the_index_is_compared_with_exact_search_on_the_questions_themselves(evaluated):
    output, metrics = evaluated
    assert {metrics[f"index_recall@{k}_{style}"] for k in (1, 5, 20) for style in ("before", "after")} == {1}
    assert "Of the first 5 passages of exact search, the index found 100.0%." in (output / "report.html").read_text()


def test_the_headline_metrics_end_the_log_for_those_who_read_no_more(evaluated):
    output, metrics = evaluated
    told = json.loads((output.parent / "log.txt").read_text().splitlines()[-1].removeprefix("metrics: "))
    assert told == {name: metrics[name] for name in told}
    assert table(told) == table(metrics)


def test_metrics_are_flat_finite_fractions(evaluated):
    output, metrics = evaluated
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values())
    counts = {"test_questions", "test_groups", "answerable_test_questions", "gold_questions", "answerable_k"}
    counts |= {f"test_sharing_{name}" for name in SHARED}
    moved = {"moved_question_encoder", "moved_passage_encoder", "moved_generator"}  # against weights of any size
    assert all(-1 <= value <= 1 for name, value in metrics.items() if name not in counts | moved)
    assert moved <= metrics.keys()
    for name in ("em", "f1", "rouge1", "rouge2", "rougeL"):
        assert {f"{name}_before", f"{name}_after", f"{name}_closed_book"} <= metrics.keys()
    for name in ("recall@1", "recall@5", "recall@20", "mrr@10", "ndcg@10"):
        assert {f"{name}_before", f"{name}_after", f"answer_{name}_before", f"answer_{name}_after"} <= metrics.keys()


def test_questions_with_a_gold_passage_in_common_are_one_group(world, evaluated, tmp_path):
    rows = lines(world / "test.jsonl")
    for row in rows[:5]:
        row["gold_ids"].append("w0")
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = run(world, tmp_path / "out", questions_path=tmp_path / "test.jsonl")
    assert [row["group"] for row in lines(tmp_path / "out" / "predictions.jsonl")][:7] == [0, 0, 0, 0, 0, 1, 2]
    assert (metrics["test_groups"], evaluated[1]["test_groups"]) == (20, 24)
    assert metrics["em_difference_high"] != evaluated[1]["em_difference_high"]


def test_half_the_questions_are_right_after_as_they_were_made_to_be(evaluated):
    _, metrics = evaluated
    assert metrics["em_after"] >= 0.5 > metrics["em_before"]
    assert metrics["em_difference_low"] > 0


def test_metrics_are_the_means_of_the_predictions(evaluated):
    output, metrics = evaluated
    predictions = lines(output / "predictions.jsonl")
    assert len(predictions) == metrics["test_questions"] == len(QUESTIONS)
    for name in ("em_before", "em_after", "em_closed_book", "f1_before", "f1_after", "f1_closed_book"):
        assert metrics[name] == pytest.approx(np.mean([row[name] for row in predictions]))
    for style in ("before", "after"):
        ranks = [row[f"gold_rank_{style}"] for row in predictions]
        assert metrics[f"recall@5_{style}"] == pytest.approx(
            np.mean([rank is not None and rank <= 5 for rank in ranks])
        )


@pytest.mark.parametrize(("style", "parts"), [("before", "base"), ("after", "other")])
def test_passages_ranks_and_probabilities_are_those_of_exact_inner_products(world, evaluated, style, parts):
    questions = Encoder.from_pretrained(world / parts / "question_encoder").encode(QUESTIONS)
    passages = Passages.open(world / "passages.parquet")
    vectors = Encoder.from_pretrained(world / "base" / "passage_encoder", "passage").encode_passages(list(passages))
    for n, row in enumerate(lines(evaluated[0] / "predictions.jsonl")):
        scores = vectors @ questions[n]
        order = np.argsort(-scores)
        shares = np.exp(scores[order[:3]] / 8.0)
        assert [entry["id"] for entry in row[f"retrieved_{style}"]] == [passages[i].id for i in order[:3]]
        assert [entry["probability"] for entry in row[f"retrieved_{style}"]] == pytest.approx(
            (shares / shares.sum()).tolist(), abs=1e-4
        )
        rank = order.tolist().index(n) + 1
        assert row[f"gold_rank_{style}"] == (rank if rank <= 20 else None)


def test_answerable_questions_are_those_with_an_answer_in_the_top_ten_of_the_base_retriever(evaluated):
    output, metrics = evaluated
    predictions = lines(output / "predictions.jsonl")
    answerable = [row for row in predictions if row["answer_rank_before"] and row["answer_rank_before"] <= 10]
    assert [row["id"] for row in predictions if row["answerable"]] == [row["id"] for row in answerable]
    assert metrics["answerable_test_questions"] == len(answerable) > 0
    assert metrics["answerable_em_after"] == pytest.approx(np.mean([row["em_after"] for row in answerable]))


def test_the_report_tells_figures_training_and_what_was_rejected(evaluated):
    html = (evaluated[0] / "report.html").read_text()
    for part in (
        "Fine-tuning raised exact match",
        "Training loss",
        "yes no",
        "learning rate",
        "generator with question",
    ):
        assert part in html, part


def test_every_retrieved_passage_is_there_to_be_read(evaluated):
    output, _ = evaluated
    known = {row["id"]: row["text"] for row in lines(output / "passages.jsonl")}
    for row in lines(output / "predictions.jsonl"):
        assert {entry["id"] for entry in row["retrieved_before"] + row["retrieved_after"]} <= known.keys()


def test_without_a_baseline_there_are_no_closed_book_figures(world, tmp_path):
    (tmp_path / "empty").mkdir()
    metrics = run(
        world, tmp_path / "out", closed_book_folder=tmp_path / "empty", report_path=tmp_path / "report", answerable_k=1
    )
    assert not [name for name in metrics if "closed_book" in name]
    assert (tmp_path / "report").read_text() == (tmp_path / "out" / "report.html").read_text()


def test_the_champion_answers_the_same_questions_on_its_own_knowledge_base(world, champion, tmp_path):
    metrics = run(world, tmp_path / "out", champion=champion)
    predictions = lines(tmp_path / "out" / "predictions.jsonl")
    with KnowledgeBase.open(knowledge_base_of(champion.folder)) as base:
        asked = ask(load_model(champion.folder), base, QUESTIONS, num_beams=2)
    assert [row["prediction_champion"] for row in predictions] == asked.answers
    assert all(len(row["retrieved_champion"]) == 2 for row in predictions)
    assert {row["gold_rank_champion"] for row in predictions[:10]} == {None}  # not among its passages
    assert metrics["em_champion"] == np.mean([row["em_champion"] for row in predictions])
    assert metrics["em_champion_difference"] == pytest.approx(metrics["em_after"] - metrics["em_champion"])
    assert metrics["em_champion_difference_low"] <= metrics["em_champion_difference"]
    facts = json.loads((tmp_path / "out" / "facts.json").read_text())
    unknown = "it is not known which questions this model and the champion learnt from"
    assert facts["champion"] == {"version": "7", "problem": "", "note": unknown}
    report = (tmp_path / "out" / "report.html").read_text()
    assert "The champion, version 7, was asked the same questions" in report and f"{unknown}." in report


def test_questions_that_either_learnt_from_do_not_count_against_the_champion(world, champion, tmp_path):
    """The champion was trained with another test_fraction, on some of today's held-out questions."""
    for folder, learnt, name in (
        (world / "model", QUESTIONS[:1], "model"),
        (champion.folder, QUESTIONS[1:5], "theirs"),
    ):
        shutil.copytree(folder, tmp_path / name)
        write_learnt(tmp_path / name, [question.upper() + "?" for question in learnt])
    metrics = run(world, tmp_path / "out", model_folder=tmp_path / "model", champion=Champion("7", tmp_path / "theirs"))
    predictions = lines(tmp_path / "out" / "predictions.jsonl")
    assert [n for n, row in enumerate(predictions) if row["em_champion"] is None] == [0, 1, 2, 3, 4]
    others = [row["em_after"] - row["em_champion"] for row in predictions[5:]]
    assert metrics["em_champion_difference"] == pytest.approx(np.mean(others))
    note = json.loads((tmp_path / "out" / "facts.json").read_text())["champion"]["note"]
    assert note == "5 of 24 questions are left out, as one of the two learnt from them"
    assert note in (tmp_path / "out" / "report.html").read_text()
    write_learnt(tmp_path / "theirs", QUESTIONS)
    metrics = run(world, tmp_path / "all", champion=Champion("7", tmp_path / "theirs"))
    problem = json.loads((tmp_path / "all" / "facts.json").read_text())["champion"]["problem"]
    assert "learnt from every question; hold out new ones" in problem and "em_champion" not in metrics


def test_a_champion_whose_corpus_had_other_ids_is_compared_by_answer(world, champion, tmp_path):
    """Its recall by today's gold ids would be 0."""
    shutil.copytree(champion.folder, tmp_path / "theirs")
    model = load_model(champion.folder)
    table = Passages.open(world / "passages.parquet").table
    ids = pa.array([f"old{n}" for n in range(LANDS)])
    Passages(pa.table({"id": ids, "title": table["title"], "text": table["text"]})).save(tmp_path / "old.parquet")
    manifest = ingest_passages(tmp_path / "old.parquet", tmp_path / "kb", model.passage_encoder)
    its_base = {"path": str(tmp_path / "kb"), "version": manifest.version, "content_hash": manifest.content_hash}
    description = json.loads((tmp_path / "theirs" / "ragtune.json").read_text())
    description["lineage"]["knowledge_base"] = its_base
    (tmp_path / "theirs" / "ragtune.json").write_text(json.dumps(description))
    metrics = run(world, tmp_path / "out", champion=Champion("7", tmp_path / "theirs"))
    assert not [name for name in metrics if name.startswith(("recall@", "mrr@")) and "champion" in name]
    assert metrics["answer_recall@20_champion"] > 0 and "answer_recall@5_champion_difference" in metrics
    report = (tmp_path / "out" / "report.html").read_text()
    assert "knowledge base has none of the gold ids" in report and "Recall@5 by answer" in report


@pytest.mark.parametrize("gone", ["kb", "model", "folder"])
def test_a_champion_that_cannot_be_asked_is_told_and_the_rest_stands(world, champion, tmp_path, gone):
    shutil.copytree(champion.folder.parent, tmp_path / "champion")
    description = tmp_path / "champion" / "model" / "ragtune.json"
    description.write_text(description.read_text().replace(str(champion.folder.parent), str(tmp_path / "champion")))
    if gone != "folder":
        shutil.rmtree(tmp_path / "champion" / gone)
    folder = None if gone == "folder" else tmp_path / "champion" / "model"
    metrics = run(world, tmp_path / "out", champion=Champion("7", folder, "no such bucket"))
    told = json.loads((tmp_path / "out" / "facts.json").read_text())["champion"]
    assert told["version"] == "7"
    assert ("no such bucket" if gone == "folder" else str(tmp_path / "champion" / gone)) in told["problem"]
    assert "em_champion" not in metrics and metrics["em_after"] >= 0.5
    report = (tmp_path / "out" / "report.html").read_text()
    assert "could not be asked these questions" in report and "promote: force" in report


def test_numbers_that_are_not_finite_leave_the_files_and_the_report_readable(world, tmp_path):
    shutil.copytree(world / "model", tmp_path / "model")
    log = '[{"step": 1, "loss": NaN}, {"step": 2, "loss": Infinity}, {"step": 3, "loss": 2.0}]'
    (tmp_path / "model" / "training_log.json").write_text(log)
    description = json.loads((tmp_path / "model" / "ragtune.json").read_text())
    description["lineage"]["parameters"] |= {"max_grad_norm": math.inf}
    (tmp_path / "model" / "ragtune.json").write_text(json.dumps(description))
    run(world, tmp_path / "out", model_folder=tmp_path / "model")
    for name in ("metrics.json", "facts.json"):
        json.loads((tmp_path / "out" / name).read_text(), parse_constant=pytest.fail)
    for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert "max grad norm" in (tmp_path / "out" / "report.html").read_text()


def test_no_question_is_an_error_and_leaves_what_was_there(world, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"empty\.jsonl: no question to evaluate on"):
        run(world, tmp_path / "out", questions_path=tmp_path / "empty.jsonl")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.json"]


def test_no_beams_are_an_error(world, tmp_path):
    with pytest.raises(EvaluationError, match="num_beams=0: must be at least 1"):
        run(world, tmp_path / "out", num_beams=0)


def test_a_base_model_of_another_knowledge_base_is_an_error(world, tmp_path):
    parts = tuple(str(world / "other" / part) for part in ("question_encoder", "passage_encoder", "generator"))
    with pytest.raises(KnowledgeBaseError, match="encoder"):
        run(world, tmp_path / "out", base_parts=parts)


def test_before_may_have_a_knowledge_base_of_its_own(world, tmp_path):
    encoder = Encoder.from_pretrained(world / "other" / "passage_encoder", "passage")
    ingest_passages(world / "passages.parquet", tmp_path / "kb", encoder)
    parts = tuple(str(world / "other" / part) for part in ("question_encoder", "passage_encoder", "generator"))
    metrics = run(world, tmp_path / "out", base_parts=parts, base_knowledge_base_folder=tmp_path / "kb")
    assert metrics["test_questions"] == len(QUESTIONS)
    shutil.rmtree(tmp_path / "kb")


@pytest.mark.parametrize("error", [KeyError("marginalization"), MemoryError("CUDA out of memory")])
def test_whatever_the_champion_raises_todays_model_is_evaluated(world, champion, tmp_path, monkeypatch, error):
    """Such as an older ragtune.json, or a GPU that is too small for it."""
    load = sides.load_model

    def failing(folder, *args):
        if folder == champion.folder:
            raise error
        return load(folder, *args)

    monkeypatch.setattr(sides, "load_model", failing)
    metrics = run(world, tmp_path / "out", champion=champion)
    told = json.loads((tmp_path / "out" / "facts.json").read_text())["champion"]
    assert told["problem"] == f"{type(error).__name__}: {error}"
    assert "em_champion" not in metrics and metrics["em_after"] >= 0.5
