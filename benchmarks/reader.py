"""A small generator that can read English: an encoder-decoder whose halves both start from MiniLM, trained to answer.

First on cloze questions, made from the passages alone ("salient span masking", Guu et al. 2020,
https://arxiv.org/abs/2002.08909), then on real questions with a passage that holds the answer.
"""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

from ragtune.files import atomic_path
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.passages import Passage, Passages
from ragtune.knowledge.splitting import split_text
from ragtune.models.encoders import Encoder
from ragtune.models.generators.seq2seq import prompt_tokens
from ragtune.models.inputs import PassageRows, PromptBuilder
from ragtune.models.rag import RagConfig
from ragtune.progress import progress
from ragtune.questions.normalization import contains_answer
from ragtune.questions.question import Question
from ragtune.sample.inverse_cloze import SENTENCE_END

ANSWER_TOKENS = 16
_NAME = re.compile(r"\b[A-Z][\w'’-]*(?: (?:(?:of|the|de|von|and) )?[A-Z][\w'’-]*)*\b|\b\d[\d,.]*\d\b|\b\d+\b")
_LONGEST_NAME = 5  # words
_FEWEST_WORDS, _MOST_WORDS = 4, 14  # of a cloze question, without its question word
_KEPT_SHARE = 0.7  # of a sentence's words, in a cloze question
_SHORT_WORDS = 35  # of the passages that are trained on first: fewer places to look at, and faster
_TEXTS_FITTED = 500
_LOUD = 15.0  # a word that is looked at, beside a state of length 10
_QUIET = 0.2  # what the decoder adds besides
_BEYOND_GELU = 3.0


class Task(NamedTuple):
    """A question with a passage to read its answer in."""

    question: str
    answer: str
    row: int


Pair = tuple[Question, list[tuple[int, str]]]  # a question, and the rows that hold an answer of its, with that answer


def both_halves_of(folder: Path, encoder_layers: int, decoder_layers: int, texts: Sequence[str]) -> EncoderDecoderModel:
    """An encoder-decoder that starts from an encoder twice, and says at first what it looks at or has just said.

    MiniLM's last layers forget which word stood where, so they are left out. What cross-attention reads at a word is
    turned into that word's embedding by a map that is fitted to `texts` (ridge regression), and passed on as it is.
    Dropout of the attention is off: on a CPU it takes longer than the attention.
    """
    options = {"attention_probs_dropout_prob": 0.0}
    config = BertConfig.from_pretrained(
        folder, is_decoder=True, add_cross_attention=True, num_hidden_layers=decoder_layers, **options
    )
    decoder = BertLMHeadModel.from_pretrained(folder, config=config)
    encoder = BertModel.from_pretrained(folder, num_hidden_layers=encoder_layers, **options)
    model, tokenizer = EncoderDecoderModel(encoder=encoder, decoder=decoder), reader_tokenizer(folder)
    with torch.no_grad():
        said = _fit_embeddings(encoder, tokenizer, texts)
        for layer in decoder.bert.encoder.layer:
            layer.crossattention.self.value.weight.copy_(_LOUD * said[:-1].T)
            layer.crossattention.self.value.bias.copy_(_LOUD * said[-1])
            layer.crossattention.output.dense.weight.copy_(torch.eye(config.hidden_size))
            layer.attention.output.dense.weight.mul_(_QUIET)
            layer.output.dense.weight.mul_(_QUIET)
        head = decoder.cls.predictions.transform
        head.dense.weight.copy_(torch.eye(config.hidden_size))
        head.dense.bias.fill_(_BEYOND_GELU)  # where GELU changes nothing; the norm behind it takes it off again
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = tokenizer.cls_token_id
        settings.eos_token_id = tokenizer.sep_token_id
        settings.pad_token_id = tokenizer.pad_token_id
    return model


def _fit_embeddings(encoder: BertModel, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """(width + 1, width), the last row a constant: from the encoder's output at a token to its embedding, centred."""
    embeddings = encoder.embeddings.word_embeddings.weight
    embeddings = torch.nn.functional.normalize(embeddings - embeddings.mean(0), dim=1)
    inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=128, return_tensors="pt")
    real = inputs["attention_mask"].bool()
    read = encoder.eval()(**inputs).last_hidden_state[real]
    read = torch.cat([read, torch.ones(len(read), 1)], dim=1)
    square = read.T @ read + torch.eye(read.shape[1])
    return torch.linalg.solve(square, read.T @ embeddings[inputs["input_ids"][real]])


def reader_tokenizer(folder: Path) -> Any:
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
        held = [
            (row, answer)
            for row in candidates
            for answer in question.answers
            if contains_answer(base.passages[row].text, [answer])
        ]
        if held:
            pairs.append((question, held))
    return pairs


def cloze_questions(passages: PassageRows, chance: random.Random) -> Iterator[Task]:
    """Endless: most words of a sentence in their order, behind a question word; its answer is a name or a number."""
    while True:
        row = chance.randrange(len(passages))
        sentence = chance.choice(SENTENCE_END.split(passages[row].text))
        names = [found for found in _NAME.finditer(sentence) if len(found.group().split()) <= _LONGEST_NAME]
        names = [found for found in names if found.start() > 0 or " " in found.group()]  # else it may be any word
        if not names:
            continue
        name = chance.choice(names)
        before, after = sentence[: name.start()].split(), sentence[name.end() :].split()
        room = chance.randint(_FEWEST_WORDS, _MOST_WORDS)
        nearby = before[-room:] + after[:room]
        words = [word.strip(".,;:()\"'–—-") for word in nearby if chance.random() < _KEPT_SHARE]
        kept = [word for word in words if word][:_MOST_WORDS]
        if len(kept) >= _FEWEST_WORDS:
            yield Task(" ".join([_question_word(name.group(), chance), *kept]).lower(), name.group(), row)


def _question_word(answer: str, chance: random.Random) -> str:
    if not answer[0].isdigit():
        return chance.choice(("who", "what", "where", "which"))
    return "when" if re.fullmatch(r"1\d{3}|20\d{2}", answer) else "how many"


def real_questions(pairs: Sequence[Pair], chance: random.Random) -> Iterator[Task]:
    """Endless: all questions in a random order, then again, each with one of its passages."""
    while True:
        for question, held in chance.sample(pairs, len(pairs)):
            row, answer = chance.choice(held)
            yield Task(question.question, answer, row)


def train_reader(folder: Path, encoder: Path, pairs: Sequence[Pair], passages: Passages, options: Any) -> None:
    """Train the generator, or go on with `options.start`, and save it.

    It gets cloze questions on short passages, a third as many on whole ones, then real questions.
    """
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer, chance = reader_tokenizer(encoder), random.Random(0)
    texts = [passages[row].text for row in chance.sample(range(len(passages)), min(_TEXTS_FITTED, len(passages)))]
    if options.start:
        model = EncoderDecoderModel.from_pretrained(options.start)
    else:
        model = both_halves_of(encoder, options.encoder_layers, options.decoder_layers, texts)
    model.to(device).train()
    short = [
        Passage("", passage.title, piece, ())
        for passage in (passages[row] for row in range(len(passages)))
        for piece in split_text(passage.text, _SHORT_WORDS)
    ]
    config = RagConfig(max_input_tokens=options.max_input_tokens)
    whole = PromptBuilder(prompt_tokens(tokenizer), passages, config)
    stages = [
        (options.cloze_steps, cloze_questions(short, chance), PromptBuilder(prompt_tokens(tokenizer), short, config)),
        (options.cloze_steps // 3, cloze_questions(passages, chance), whole),
        (options.reader_steps, real_questions(pairs, chance), whole),
    ]
    schedule = [(tasks, prompts) for count, tasks, prompts in stages for _ in range(count)]
    steps, ramp = len(schedule), max(1, len(schedule) // 20)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.reader_learning_rate, weight_decay=0.01, fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / ramp, 1 - s / (steps + 1)))
    losses = []
    for step, (tasks, prompts) in enumerate(progress(schedule, "reader", unit="steps"), 1):
        batch = list(islice(tasks, options.reader_batch))
        inputs = prompts.build([task.question for task in batch], np.array([[task.row] for task in batch]))
        told = [task.answer for task in batch]
        answers = tokenizer(told, truncation=True, max_length=ANSWER_TOKENS)["input_ids"]  # with [CLS], as in the pairs
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
        if step % max(1, steps // 40) == 0:
            print(f"reader: step {step}, loss {mean(losses):.3f}", flush=True)
            losses.clear()
    with atomic_path(folder) as temporary:
        model.eval().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
