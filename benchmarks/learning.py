"""What joint training is worth on real questions: recall by gold passage and EM on NQ dev, before and after.

    python benchmarks/learning.py --data FOLDER [--seeds 0 1 2] [--reader-steps 2000] [--steps 500]

FOLDER holds nq/{train,dev}.jsonl, nq/passages.parquet and nq_open/questions.jsonl. Encoders are all-MiniLM-L6-v2. The
generator is an encoder-decoder whose halves both start from MiniLM, first trained as a reader: on the gold passages of
the training questions, and on nq_open's questions with passages that MiniLM retrieves and that hold an answer. From
that base, for each seed: fine-tuning with the question encoder frozen, fine-tuning both together, and closed-book.
Without a GPU this takes hours; fewer steps give poorer readers, and the same comparison.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from measured import report
from real_questions import minilm
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

from ragtune.evaluation.evaluate import evaluate
from ragtune.files import atomic_path
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.passages import Passages, split_passages
from ragtune.models.encoders import Encoder
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig
from ragtune.progress import progress
from ragtune.questions.filtering import filter_questions
from ragtune.questions.normalization import contains_answer
from ragtune.questions.question import Question, read_kept_questions
from ragtune.questions.tokenization import load_question_prompt, load_tokenizer, tokenize_pairs
from ragtune.training.launch import finetune

TEMPERATURE = 0.05
ANSWER_TOKENS = 16
SHOWN = ("recall@1", "recall@5", "answer_recall@5", "em", "f1")
VERSIONS = ("torch", "transformers", "feast", "pymilvus", "milvus-lite")
Pair = tuple[Question, list[int]]  # a question, and the rows of passages that hold its answer


def both_halves_of(folder: Path, layers: int) -> EncoderDecoderModel:
    """An encoder-decoder that starts from an encoder twice; the decoder's cross-attention is new."""
    config = BertConfig.from_pretrained(folder, is_decoder=True, add_cross_attention=True, num_hidden_layers=layers)
    decoder = BertLMHeadModel.from_pretrained(folder, config=config)
    model = EncoderDecoderModel(encoder=BertModel.from_pretrained(folder), decoder=decoder)
    tokenizer = reader_tokenizer(folder)
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = tokenizer.cls_token_id
        settings.eos_token_id = tokenizer.sep_token_id
        settings.pad_token_id = tokenizer.pad_token_id
    return model


def reader_tokenizer(folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    return tokenizer


def reading_pairs(questions: Sequence[Question], base: KnowledgeBase, encoder: Encoder, k: int = 10) -> list[Pair]:
    """Questions with passages to read their answer in: gold ones where they are known, else retrieved ones."""
    rows_of: dict[str, list[int]] = {}
    for row in range(len(base.passages)):
        for source in base.passages[row].source_ids:
            rows_of.setdefault(source, []).append(row)
    found = base.search(encoder.encode([question.question for question in questions]), k).rows
    pairs = []
    for question, retrieved in zip(questions, found, strict=True):
        gold = [row for identifier in question.gold_ids for row in rows_of.get(identifier, ())]
        candidates = gold or retrieved[retrieved >= 0].tolist()
        rows = [row for row in candidates if contains_answer(base.passages[row].text, question.answers)]
        if rows:
            pairs.append((question, rows))
    return pairs


def batches(pairs: Sequence[Pair], passages: Passages, size: int, seed: int) -> Iterator[list[tuple[Question, int]]]:
    chance = random.Random(seed)
    while True:
        for start in range(0, len(order := chance.sample(range(len(pairs)), len(pairs))) - size + 1, size):
            yield [(pairs[i][0], chance.choice(pairs[i][1])) for i in order[start : start + size]]


def train_reader(folder: Path, encoder: Path, pairs: Sequence[Pair], passages: Passages, options, seed: int) -> None:
    """The generator, trained on one passage a question that holds its answer."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = reader_tokenizer(encoder)
    model = both_halves_of(encoder, options.decoder_layers).to(device).train()
    prompts = PromptBuilder(tokenizer, passages, RagConfig(max_input_tokens=options.max_input_tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.reader_learning_rate, weight_decay=0.01)
    steps, ramp = options.reader_steps, max(1, options.reader_steps // 20)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / ramp, 1 - s / (steps + 1)))
    endless = batches(pairs, passages, options.reader_batch, seed)
    losses = []
    for step in progress(range(1, steps + 1), f"reader {seed}", unit="steps"):
        batch = next(endless)
        inputs = prompts.build([q.question for q, _ in batch], np.array([[row] for _, row in batch]))
        answers = tokenizer([q.answers[0] for q, _ in batch], add_special_tokens=False)["input_ids"]
        answers = [[*ids[: ANSWER_TOKENS - 1], tokenizer.eos_token_id] for ids in answers]
        longest = max(map(len, answers))
        labels = torch.tensor([ids + [-100] * (longest - len(ids)) for ids in answers])
        with torch.autocast(device, torch.bfloat16):
            loss = model(**{name: value.to(device) for name, value in inputs.items()}, labels=labels.to(device)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
        if step % max(1, steps // 20) == 0:
            print(f"reader {seed}: step {step}, loss {mean(losses):.3f}", flush=True)
            losses.clear()
    with atomic_path(folder) as temporary:
        model.eval().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


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


def one_seed(seed: int, files: dict[str, Path], base_folder: Path, work: Path, options) -> dict[str, dict[str, float]]:
    encoder, reader = minilm(), work / f"reader-{seed}-{options.reader_steps}"
    train = files["train"].with_name("readable.jsonl")
    with KnowledgeBase.open(base_folder) as base:
        known = reading_pairs(list(read_kept_questions(files["train"])), base, Encoder.from_pretrained(encoder))
        if not reader.exists():
            train_reader(reader, encoder, known, base.passages, options, seed)
    train.write_text("".join(question.as_line() for question, _ in known), encoding="utf-8")
    pairs = work / f"pairs-{seed}"
    tokenize_pairs(
        train,
        files["validation"],
        load_tokenizer(encoder),
        load_tokenizer(reader),
        pairs,
        max_answer_tokens=ANSWER_TOKENS,
        question_prompt=load_question_prompt(encoder),
    )
    results = {}
    for name, frozen in (("frozen", True), ("joint", False)):
        model, closed_book = work / f"{name}-{seed}", work / f"closed-book-{seed}"
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
            eval_steps=max(1, options.steps // 5),
            seed=seed,
        )
        results[name] = evaluate(
            model,
            (str(encoder), str(encoder), str(reader)),
            files["test"],
            base_folder,
            work / f"evaluation-{name}-{seed}",
            closed_book_folder="" if frozen else closed_book,
            num_beams=options.num_beams,
            seed=seed,
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, help="keeps what is made; a temporary folder where it is not given")
    parser.add_argument("--embedding-cache", default="", help="folder that keeps MiniLM's vectors")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num-beams", type=int, default=4, help="of the evaluation")
    parser.add_argument("--limit", type=int, default=0, help="questions of each source; 0 for all")
    parser.add_argument("--decoder-layers", type=int, default=6)
    parser.add_argument("--max-input-tokens", type=int, default=224)
    parser.add_argument("--reader-steps", type=int, default=2000)
    parser.add_argument("--reader-batch", type=int, default=32)
    parser.add_argument("--reader-learning-rate", type=float, default=2e-4)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--question-encoder-learning-rate", type=float, default=1e-5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        work = options.workspace or Path(own)
        work.mkdir(parents=True, exist_ok=True)
        files = prepared(options.data, work, options.limit)
        base_folder = work / "base"
        passage_encoder = Encoder.from_pretrained(minilm(), "passage")
        ingest_passages(files["passages"], base_folder, passage_encoder, embedding_cache=options.embedding_cache)
        runs = {seed: one_seed(seed, files, base_folder, work, options) for seed in options.seeds}
    columns = {
        "before": ("joint", "before"),
        "closed-book": ("joint", "closed_book"),
        "frozen retriever": ("frozen", "after"),
        "joint": ("joint", "after"),
    }
    table = [("mean over seeds (standard deviation)", *columns)]
    for figure in SHOWN:
        cells = []
        for kind, side in columns.values():
            values = [run[kind][f"{figure}_{side}"] for run in runs.values() if f"{figure}_{side}" in run[kind]]
            spread = f" ({stdev(values):.3f})" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{spread}" if values else "")
        table.append((figure, *cells))
    wanted = [f"{figure}_{side}" for figure in SHOWN for side in ("before", "after", "closed_book")]
    figures = {
        seed: {kind: {name: round(run[name], 4) for name in wanted if name in run} for kind, run in kinds.items()}
        for seed, kinds in runs.items()
    }
    shown = {
        name: value for name, value in vars(options).items() if name not in ("data", "workspace", "embedding_cache")
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    report("learning", table, {**shown, "device": device, "runs": figures}, VERSIONS)


if __name__ == "__main__":
    main()
