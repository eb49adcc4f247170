"""The gain from joint training on real questions: recall by gold passage and EM on NQ dev, before and after.

    python benchmarks/learning.py --data FOLDER [--seeds 0 1 2] [--cloze-steps 6000] [--reader-steps 2000] [--steps 500]

FOLDER holds nq/{train,dev}.jsonl, nq/passages.parquet and nq_open/questions.jsonl. Encoders are all-MiniLM-L6-v2. The
generator is an encoder-decoder whose halves both start from MiniLM, first trained as a reader (benchmarks/reader.py):
on cloze questions, then on the gold passages of the training questions and on nq_open's questions with passages that
MiniLM retrieves and that hold an answer. From that one start, for each seed: fine-tuning with the question encoder
frozen, fine-tuning both together, and closed-book. Without a GPU this takes hours; fewer steps give a poorer reader,
and the same comparison. Stopped and started again with the same --workspace it goes on.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from measured import over_seeds, report
from reader import ANSWER_TOKENS, reading_pairs, train_reader
from real_questions import minilm

from ragtune.evaluation.evaluate import evaluate
from ragtune.hub import load_prompt, load_tokenizer
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.split_corpus import split_passages
from ragtune.models.encoders import Encoder
from ragtune.questions.filtering import filter_questions
from ragtune.questions.question import read_kept_questions
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.training.launch import finetune

TEMPERATURE = 0.05
SHOWN = ("recall@1", "recall@5", "answer_recall@5", "em", "f1")
VERSIONS = ("torch", "transformers", "feast", "pymilvus", "milvus-lite")


def prepared(data: Path, work: Path, limit: int) -> dict[str, Path]:
    """Question files and passages, made once."""
    made = {name: work / f"{name}.jsonl" for name in ("train", "validation", "test", "rejected", "questions")}
    made["passages"] = work / "passages.parquet"
    if not made["passages"].exists():
        with open(data / "nq" / "train.jsonl", encoding="utf-8") as known:
            rows = [json.loads(line) for line in known][: limit or None]
        with open(data / "nq_open" / "questions.jsonl", encoding="utf-8") as unknown:
            more = [json.loads(line) for line in unknown][: limit or None]
        rows += [{"id": f"open{n}", "question": r["question"], "answers": r["answer"]} for n, r in enumerate(more)]
        made["questions"].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        names = ("train", "validation", "test", "rejected")
        filter_questions(
            made["questions"],
            *(made[name] for name in names),
            test_uri=data / "nq" / "dev.jsonl",
            layout="plain",
            max_test_questions=limit,
        )
        split_passages(data / "nq" / "passages.parquet", made["passages"], max_words=120)
    return made


def readable_pairs(files: dict[str, Path], base_folder: Path, reader: Path, work: Path, options) -> Path:
    """Tokenised training questions that some passage answers; trains the reader on them where there is none yet."""
    encoder = minilm()
    readable, pairs = files["train"].with_name("readable.jsonl"), work / "pairs"
    with KnowledgeBase.open(base_folder) as base:
        known = reading_pairs(list(read_kept_questions(files["train"])), base, Encoder.from_pretrained(encoder))
        if not reader.exists():
            train_reader(reader, encoder, known, base.passages, options)
    readable.write_text("".join(question.as_line() for question, _ in known), encoding="utf-8")
    tokenize_pairs(
        readable,
        files["validation"],
        load_tokenizer(encoder),
        load_tokenizer(reader),
        pairs,
        max_answer_tokens=ANSWER_TOKENS,
        question_prompt=load_prompt(encoder, "question"),
    )
    return pairs


def one_seed(
    seed: int, pairs: Path, questions: Path, base_folder: Path, reader: Path, work: Path, options
) -> dict[str, dict[str, float]]:
    """Figures on `questions` of a run with the question encoder frozen, and of one that trains both."""
    encoder = minilm()
    results = {}
    for name, frozen in (("frozen", True), ("joint", False)):
        model, closed_book = work / f"{name}-{seed}", work / f"closed-book-{seed}"
        evaluation = work / f"evaluation-{name}-{seed}"
        if (metrics := evaluation / "metrics.json").exists():
            results[name] = json.loads(metrics.read_text(encoding="utf-8"))
            continue
        finetune(
            pairs,
            base_folder,
            model,
            work / "training",
            question_encoder=encoder,
            passage_encoder=encoder,
            generator=reader,
            closed_book_folder="" if frozen else closed_book,
            freeze_question_encoder=frozen,
            temperature=TEMPERATURE,
            max_input_tokens=options.max_input_tokens,
            max_steps=options.steps,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            question_encoder_learning_rate=options.question_encoder_learning_rate,
            eval_steps=options.eval_steps,
            eval_strategy="steps" if options.eval_steps else "no",
            max_eval_questions=options.max_eval_questions,
            seed=seed,
        )
        results[name] = evaluate(
            model,
            (str(encoder), str(encoder), str(reader)),
            questions,
            base_folder,
            evaluation,
            closed_book_folder="" if frozen else closed_book,
            num_beams=options.num_beams,
            seed=seed,
        )
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, help="keeps what is made, for these very options")
    parser.add_argument("--embedding-cache", default="", help="folder that keeps MiniLM's vectors")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num-beams", type=int, default=4, help="of the evaluation")
    parser.add_argument("--limit", type=int, default=0, help="questions of each source; 0 for all")
    parser.add_argument("--start", type=Path, help="a reader to go on with, instead of a new one")
    parser.add_argument("--encoder-layers", type=int, default=4, help="of the reader; MiniLM has 6")
    parser.add_argument("--decoder-layers", type=int, default=2, help="of the reader")
    parser.add_argument("--max-input-tokens", type=int, default=224)
    parser.add_argument("--cloze-steps", type=int, default=6000, help="of the reader, on questions from passages")
    parser.add_argument("--reader-steps", type=int, default=2000, help="of the reader, on real questions")
    parser.add_argument("--reader-batch", type=int, default=16)
    parser.add_argument("--reader-learning-rate", type=float, default=3e-4)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--question-encoder-learning-rate", type=float, default=1e-5)
    parser.add_argument("--eval-steps", type=int, default=100, help="0 keeps the last step, and not the best")
    parser.add_argument("--max-eval-questions", type=int, default=500, help="of validation")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as own:
        work = options.workspace or Path(own)
        work.mkdir(parents=True, exist_ok=True)
        files = prepared(options.data, work, options.limit)
        base_folder = work / "base"
        passage_encoder = Encoder.from_pretrained(minilm(), "passage")
        ingest_passages(files["passages"], base_folder, passage_encoder, embedding_cache=options.embedding_cache)
        reader = work / f"reader-{options.cloze_steps}-{options.reader_steps}"
        pairs = readable_pairs(files, base_folder, reader, work, options)
        runs = {
            seed: one_seed(seed, pairs, files["test"], base_folder, reader, work, options) for seed in options.seeds
        }
    columns = {
        "before": ("joint", "before"),
        "closed-book": ("joint", "closed_book"),
        "frozen retriever": ("frozen", "after"),
        "joint": ("joint", "after"),
    }
    table = [("mean over seeds ± standard deviation", *columns)]
    for figure in SHOWN:
        cells = []
        for kind, side in columns.values():
            values = [run[kind][f"{figure}_{side}"] for run in runs.values() if f"{figure}_{side}" in run[kind]]
            cells.append(over_seeds(values) if values else "")
        table.append((figure, *cells))
    wanted = [f"{figure}_{side}" for figure in SHOWN for side in ("before", "after", "closed_book")]
    figures = {
        seed: {kind: {name: round(run[name], 4) for name in wanted if name in run} for kind, run in kinds.items()}
        for seed, kinds in runs.items()
    }
    shown = {
        name: value for name, value in vars(options).items() if name not in ("data", "workspace", "embedding_cache")
    }
    shown["start"] = options.start.name if options.start else ""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    report("learning", table, {**shown, "device": device, "runs": figures}, VERSIONS)


if __name__ == "__main__":
    main()
