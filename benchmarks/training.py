"""Claim: five times the training samples a second of RagSequenceForGeneration with Feast's FeastRAGRetriever.

    python benchmarks/training.py --data FOLDER [--embedding-cache DIR]
    python benchmarks/training.py --data FOLDER --device cuda --shape base-large

FOLDER holds nq/passages.parquet and nq/train.jsonl. Both sides have the same random weights (a DPR encoder of 4 layers
and a BART of 3 + 3 layers, 256 wide, 30,000 tokens; on a GPU DPR-base and BART-large), the same questions in the same
batches, AdamW and the same Milvus Lite database, opened by a fresh process each; they take turns, --pairs times. The
peer trains as its user gets it to: its loss, which is per example, averaged; the store's field names given; contexts
padded to 300 tokens by its retriever, answers to 32. Its passages come without titles and all with the query's own
vector. --peer none leaves it out, --retrieval none trains on passages that were found before, so that nothing is
searched for.
"""

import argparse
import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measured import PAIRS, in_turn, medians, ratio, report
from random_models import SHAPES, save_parts
from stopwatch import StepTimes, Stopwatch
from stores import VERSIONS

from ragtune.knowledge.passages import Passages
from ragtune.questions.question import read_kept_questions

N_DOCS = 5
MAX_INPUT, MAX_ANSWER = 300, 32  # tokens; transformers' RAG pads to them
PARTS = ("encode", "search", "prompts", "forward", "backward", "optimiser")


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Models, tokenised pairs and the knowledge base, all in one process that then ends and lets go of the database."""
    from transformers import AutoTokenizer

    from ragtune.knowledge.knowledge_base import ingest_passages
    from ragtune.models.encoders import Encoder
    from ragtune.questions.tokenization import tokenize_pairs

    device = options.device
    passages = Passages.open(options.data / "nq" / "passages.parquet")
    Passages(passages.table.slice(0, options.passages)).save(folder / "passages.parquet")
    passages = Passages.open(folder / "passages.parquet")
    questions = list(itertools.islice(read_kept_questions(options.data / "nq" / "train.jsonl"), options.questions))
    texts = [f"{p.title} {p.text}" for p in map(passages.__getitem__, range(len(passages)))]
    parts = save_parts(folder / "parts", options.shape, [*texts, *(question.question for question in questions)])
    (folder / "questions.jsonl").write_text("".join(question.as_line() for question in questions), "utf-8")
    (folder / "none.jsonl").touch()
    tokenizers = [AutoTokenizer.from_pretrained(part) for part in (parts[0], parts[2])]
    tokenize_pairs(folder / "questions.jsonl", folder / "none.jsonl", *tokenizers, folder / "pairs")
    encoder = Encoder.from_pretrained(parts[1], "passage").to(device)
    ingest_passages(passages.place, folder / "base", encoder, embedding_cache=options.embedding_cache)


def ours(folder: Path, options: argparse.Namespace, breakdown: bool) -> dict[str, float]:
    import datasets

    from ragtune.knowledge.knowledge_base import KnowledgeBase
    from ragtune.models.inputs import PromptBuilder
    from ragtune.models.rag import RagModel
    from ragtune.training.arguments import RagTrainingArguments
    from ragtune.training.trainer import RagTrainer

    model = RagModel.from_parts(*parts_of(folder))
    arguments = RagTrainingArguments(
        **training_arguments(folder / "ours", options), n_docs=N_DOCS, precision=options.precision
    )
    watch = Stopwatch(options.device if breakdown else "cpu")
    with KnowledgeBase.open(folder / "base") as base:
        if options.retrieval == "none":
            base.search = once(base.search)
        prompts = PromptBuilder(model.generator.prompt_tokens, base.passages, model.config)
        pairs = datasets.load_from_disk(str(folder / "pairs"))["train"]
        trainer = RagTrainer(model, arguments, arguments.make_method(), prompts, pairs, search=base)
        if breakdown:
            watch.watch(trainer.model, "encode_questions", "encode")
            watch.watch(trainer.steps, "_retrieve", "search")
            watch.watch(trainer.steps, "_inputs", "prompts")
            watch.watch(trainer.model, "forward", "forward")
            watch.watch(trainer.accelerator, "backward", "backward")
            watch.watch_optimizer(trainer, "optimiser")
        figures = measure(trainer, watch, options, breakdown)
    mfu = [entry["mfu"] for entry in trainer.state.log_history if "mfu" in entry]
    return figures | ({"mfu": mfu[-1]} if mfu else {}) | {"bf16": float(arguments.bf16)}


def theirs(folder: Path, options: argparse.Namespace, breakdown: bool) -> dict[str, float]:
    from retrieval import feast_retriever
    from transformers import (
        AutoTokenizer,
        BartForConditionalGeneration,
        DPRQuestionEncoder,
        RagConfig,
        RagSequenceForGeneration,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
    )

    class Averaging(Seq2SeqTrainer):
        """Without this it fails: the loss is per example."""

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return model(**inputs).loss.mean()

        def get_train_dataloader(self):
            return torch.utils.data.DataLoader(self.train_dataset, batch_sampler=step_batches(options, len(rows)))

    encoder_folder, _, generator_folder = parts_of(folder)
    encoder = DPRQuestionEncoder.from_pretrained(encoder_folder)
    generator = BartForConditionalGeneration.from_pretrained(generator_folder)
    tokenizers = [AutoTokenizer.from_pretrained(part) for part in (encoder_folder, generator_folder)]
    config = RagConfig.from_question_encoder_generator_configs(
        encoder.config,
        generator.config,
        n_docs=N_DOCS,
        max_combined_length=MAX_INPUT,
        retrieval_vector_size=encoder.config.hidden_size,
    )
    retriever = feast_retriever(
        folder,
        encoder.config.hidden_size,
        question_encoder_tokenizer=tokenizers[0],
        question_encoder=encoder,
        generator_tokenizer=tokenizers[1],
        generator_model=generator,
        config=config,
    )
    model = RagSequenceForGeneration(config, encoder, generator, retriever)
    rows = peer_rows(folder, *tokenizers)
    arguments = Seq2SeqTrainingArguments(
        **training_arguments(folder / "theirs", options),
        bf16=options.device == "cuda" and options.precision != "fp32",
    )
    watch = Stopwatch(options.device if breakdown else "cpu")
    trainer = Averaging(model, arguments, train_dataset=rows)
    if options.retrieval == "none":
        retriever.retrieve = once(retriever.retrieve)
    if breakdown:
        watch.watch(encoder, "forward", "encode")
        watch.watch(retriever, "retrieve", "search")
        watch.watch(retriever, "postprocess_docs", "prompts")
        watch.watch(model, "forward", "forward")
        watch.watch(trainer.accelerator, "backward", "backward")
        watch.watch_optimizer(trainer, "optimiser")
    return measure(trainer, watch, options, breakdown)


def peer_rows(folder: Path, question_tokenizer: Any, generator_tokenizer: Any) -> list[dict[str, torch.Tensor]]:
    rows = []
    for question in read_kept_questions(folder / "questions.jsonl"):
        fixed = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        asked = question_tokenizer(question.question, max_length=MAX_ANSWER, **fixed)
        labels = generator_tokenizer(question.answers[0], max_length=MAX_ANSWER, **fixed)["input_ids"]
        rows.append({"input_ids": asked["input_ids"][0], "attention_mask": asked["attention_mask"][0]})
        rows[-1]["labels"] = labels[0]
    return rows


def step_batches(options: argparse.Namespace, rows: int) -> list[list[int]]:
    """The questions of every step, as ragtune takes them."""
    from ragtune.training.batches import StepBatches

    batches = StepBatches(rows, options.batch_size)
    return list(itertools.islice(batches, options.warm_up + options.steps))


def training_arguments(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": options.warm_up + options.steps,
        "per_device_train_batch_size": options.batch_size,
        "eval_strategy": "no",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 3e-5,
        "use_cpu": options.device == "cpu",
        "seed": 42,
        "logging_steps": options.warm_up,  # the first window is not counted
    }


def measure(trainer: Any, watch: Stopwatch, options: argparse.Namespace, breakdown: bool) -> dict[str, float]:
    times = StepTimes(options.warm_up, options.device, watch.seconds.clear)
    trainer.add_callback(times)
    trainer.train()
    figures = {
        "samples_per_s": options.batch_size / times.median,
        "samples_per_s_mean": options.batch_size * times.steps / times.total,
        "seconds_a_step": times.median,
        "processor_seconds_a_step": times.median_of_processor,
    }
    if breakdown:
        parts = {part: watch.seconds[part] / times.steps for part in PARTS}
        figures |= {f"{part}_seconds": seconds for part, seconds in parts.items()}
        figures["rest_seconds"] = times.total / times.steps - sum(parts.values())
    return figures


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Answers every call as the first one."""
    answers: list[Any] = []

    def answer(*args: Any, **options: Any) -> Any:
        if not answers:
            answers.append(function(*args, **options))
        return answers[0]

    return answer


def parts_of(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "parts" / "question_encoder", folder / "parts" / "passage_encoder", folder / "parts" / "generator"


def in_fresh_process(work: Callable[..., Any], *args: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def run(side: Callable[..., dict[str, float]], folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """On a GPU the parts of a step are timed in a run of their own, for it has to wait for the device at each."""
    if options.device == "cpu":
        return in_fresh_process(side, folder, options, True)
    return in_fresh_process(side, folder, options, True) | in_fresh_process(side, folder, options, False)


def table(sides: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    rows = [("", *sides)]
    for name in (
        "samples_per_s",
        "seconds_a_step",
        "processor_seconds_a_step",
        *(f"{part}_seconds" for part in (*PARTS, "rest")),
        "mfu",
    ):
        if any(name in figures for figures in sides.values()):
            cells = (f"{figures[name]:.3g}" if name in figures else "" for figures in sides.values())
            rows.append((name.removesuffix("_seconds").replace("_", " "), *cells))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=2000, help="at most")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="auto: bf16 on a GPU")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--warm-up", type=int, default=2, help="steps that are not counted")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often both sides are measured, in turn")
    parser.add_argument("--retrieval", choices=("milvus", "none"), default="milvus")
    parser.add_argument("--peer", choices=("feast", "none"), default="feast")
    parser.add_argument("--embedding-cache", default="", help="folder that keeps the passages' vectors")
    options = parser.parse_args(arguments)

    sides = {"RAG + FeastRAGRetriever": theirs, "ragtune": ours} if options.peer == "feast" else {"ragtune": ours}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_fresh_process(prepare, folder, options)
        runs = in_turn({side: partial(run, work, folder, options) for side, work in sides.items()}, options.pairs)
    measured = {side: medians(figures) for side, figures in runs.items()}
    figures: dict[str, Any] = {
        f"{prefix}_{name}": round(value, 4)
        for prefix, side in zip(("theirs", "ours")[-len(measured) :], measured.values(), strict=True)
        for name, value in side.items()
    }
    rows = table(measured)
    if options.peer == "feast":
        by_side = [
            [[run[name] for run in of_side] for of_side in runs.values()]
            for name in ("samples_per_s", "processor_seconds_a_step")
        ]
        (theirs_speed, ours_speed), (theirs_cost, ours_cost) = by_side
        faster, less = ratio(ours_speed, theirs_speed), ratio(theirs_cost, ours_cost)
        figures |= faster.figures("times_faster") | less.figures("times_less_processor")
        rows += [("times faster", "", str(faster)), ("times less processor", "", str(less))]
    settings = {key: value for key, value in vars(options).items() if key not in ("data", "embedding_cache")}
    precision = "bf16" if measured["ragtune"]["bf16"] else "fp32"
    settings |= {"n_docs": N_DOCS, "weights": "random", "precision": precision, "accelerator": accelerator(options)}
    name = "training" if options.device == "cpu" else f"training-{options.device}-{options.retrieval}"
    report(name, rows, settings | figures, (*VERSIONS, "torch", "transformers"))


def accelerator(options: argparse.Namespace) -> str:
    return torch.cuda.get_device_name() if options.device == "cuda" else "none"


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
