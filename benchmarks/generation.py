"""Claim: five times the generated answers a second of RagSequenceForGeneration.generate, and the same exact match.

    python benchmarks/generation.py [--model FOLDER]

One checkpoint (the bundled sample's base, or a folder that ragtune has trained on it), the sample's held-out questions,
the same 5 passages for each with the same p(z | x), and the same beams; they take turns. transformers pads its contexts
to 300 tokens as its retriever does, and forgets their attention mask while it proposes answers, so that what it
proposes is made from padding too; the last rows give it unpadded contexts of one question at a time, the best that its
user can do.
"""

import argparse
import itertools
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measured import PAIRS, Ratio, in_turn, ratio, report
from transformers import RagConfig as HuggingFaceRagConfig
from transformers import RagSequenceForGeneration

import ragtune.sample
from ragtune.knowledge.corpus import read_corpus
from ragtune.knowledge.passages import Passage
from ragtune.models.checkpoint import load_model
from ragtune.models.generation import generate_answers
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.questions.normalization import exact_match
from ragtune.questions.nq import read_questions
from ragtune.questions.question import Question

SAMPLE = Path(ragtune.sample.__file__).parent
N_DOCS = 5
MAX_INPUT = 300  # tokens, to which transformers' retriever pads


class Setting:
    """A model, questions, and each one's passages with log p(z | x)."""

    def __init__(self, options: argparse.Namespace) -> None:
        rows = read_questions(SAMPLE / "test.simplified.jsonl.gz")
        asked = itertools.islice((row for row in rows if isinstance(row, Question)), options.questions)
        self.references = {question.question: question.answers for question in asked}
        self.questions = list(self.references)
        corpus = read_corpus(SAMPLE / "corpus.jsonl")
        self.passages = [Passage(row.id, row.title, row.text, (row.id,)) for row in corpus]
        self.model = load_model(options.model) if options.model else base_model()
        model = self.model.to(options.device)
        queries = model.question_encoder.encode(self.questions)
        scores = queries @ model.passage_encoder.encode_passages(self.passages).T / model.config.temperature
        self.rows = np.argsort(-scores, axis=1)[:, :N_DOCS]
        self.log_probs = torch.from_numpy(np.take_along_axis(scores, self.rows, 1)).log_softmax(-1)

    def found(self) -> list[list[Passage]]:
        return [[self.passages[row] for row in rows] for rows in self.rows]

    def exact_match(self, answers: Sequence[str]) -> float:
        return float(
            np.mean([exact_match(a, self.references[q]) for q, a in zip(self.questions, answers, strict=True)])
        )


def base_model() -> RagModel:
    encoder, generator = SAMPLE / "base" / "encoder", SAMPLE / "base" / "generator"
    config = RagConfig(n_docs=N_DOCS, temperature=0.05, max_answer_tokens=12, max_input_tokens=160)
    return RagModel.from_parts(encoder, encoder, generator, config)


def theirs(setting: Setting, num_beams: int, at_once: int, max_input: int) -> tuple[list[str], np.ndarray]:
    model = setting.model
    config = HuggingFaceRagConfig.from_question_encoder_generator_configs(
        model.question_encoder.backbone.config, model.generator.backbone.config, n_docs=N_DOCS
    )
    config.generator.bos_token_id = None  # T5 has none, and transformers asks for it
    rag = RagSequenceForGeneration(config, model.question_encoder.backbone, model.generator.backbone).eval()
    prompts = PromptBuilder(model.generator.prompt_tokens, setting.passages, model.config)
    answers, seconds = [], np.zeros(2)
    for start in range(0, len(setting.questions), at_once):
        part = slice(start, start + at_once)
        contexts = padded(prompts.build(setting.questions[part], setting.rows[part]), max_input, model)
        begin = now()
        sequences = rag.generate(
            context_input_ids=contexts["input_ids"],
            context_attention_mask=contexts["attention_mask"],
            doc_scores=setting.log_probs[part].to(model.device),
            n_docs=N_DOCS,
            num_beams=num_beams,
            max_new_tokens=model.config.max_answer_tokens,
        )
        answers += model.generator.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        seconds += now() - begin
    return [answer.strip() for answer in answers], seconds


def padded(contexts: dict[str, torch.Tensor], length: int, model: RagModel) -> dict[str, torch.Tensor]:
    missing = max(0, length - contexts["input_ids"].shape[1])
    values = {"input_ids": model.generator.backbone.config.pad_token_id, "attention_mask": 0}
    return {
        name: torch.nn.functional.pad(tensor, (0, missing), value=values[name]).to(model.device)
        for name, tensor in contexts.items()
    }


def ours(setting: Setting, num_beams: int, options: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    begin = now()
    answers = generate_answers(
        setting.model,
        setting.questions,
        setting.found(),
        setting.log_probs,
        num_beams,
        batch_size=options.batch_size,
    )
    return answers, now() - begin


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Ratio]]:
    setting = Setting(options)
    figures: dict[str, Any] = {"questions": len(setting.questions)}
    ratios: dict[str, Ratio] = {}
    ours(setting, 1, options)  # warms up
    for beams in options.beams:
        sides = {
            "ours": partial(ours, setting, beams, options),
            "theirs": partial(theirs, setting, beams, options.batch_size, MAX_INPUT),
            "theirs_unpadded": partial(theirs, setting, beams, 1, 0),
        }
        runs = in_turn(sides, options.pairs)
        answers = {side: of_side[0][0] for side, of_side in runs.items()}
        seconds = {side: np.array([took for _, took in of_side]) for side, of_side in runs.items()}
        for side in sides:
            figures[f"{side}_{beams}_beams_per_s"] = len(setting.questions) / median(seconds[side][:, 0])
            figures[f"{side}_{beams}_beams_em"] = setting.exact_match(answers[side])
            if side != "ours":
                figures[f"{side}_{beams}_beams_same_answers"] = same(answers["ours"], answers[side])
                clock, processor = (ratio(seconds[side][:, kind], seconds["ours"][:, kind]) for kind in (0, 1))
                ratios[f"times_faster_than_{side}_{beams}_beams"] = clock
                ratios[f"times_less_processor_than_{side}_{beams}_beams"] = processor
    return figures, ratios


def now() -> np.ndarray:
    """Seconds by the clock, and of processor time, which others disturb less."""
    return np.array([time.perf_counter(), time.process_time()])


def same(own: Sequence[str], other: Sequence[str]) -> float:
    return float(np.mean([a == b for a, b in zip(own, other, strict=True)]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="a folder that ragtune has trained; the sample's base if empty")
    parser.add_argument("--questions", type=int, default=64, help="at most")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often all are measured, in turn")
    parser.add_argument("--beams", type=int, nargs="+", default=[2, 4])
    options = parser.parse_args(arguments)
    figures, ratios = measure(options)
    figures = {name: round(value, 4) for name, value in figures.items()}
    rows = [("", *(f"{beams} beams" for beams in options.beams))]
    for label, name in (
        ("ragtune, answers/s", "ours_{}_beams_per_s"),
        ("  EM", "ours_{}_beams_em"),
        ("RagSequenceForGeneration, answers/s", "theirs_{}_beams_per_s"),
        ("  EM", "theirs_{}_beams_em"),
        ("  same answers", "theirs_{}_beams_same_answers"),
        ("  times faster", "times_faster_than_theirs_{}_beams"),
        ("  times less processor", "times_less_processor_than_theirs_{}_beams"),
        ("unpadded, a question at a time, answers/s", "theirs_unpadded_{}_beams_per_s"),
        ("  EM", "theirs_unpadded_{}_beams_em"),
        ("  same answers", "theirs_unpadded_{}_beams_same_answers"),
        ("  times faster", "times_faster_than_theirs_unpadded_{}_beams"),
        ("  times less processor", "times_less_processor_than_theirs_unpadded_{}_beams"),
    ):
        names = [name.format(beams) for beams in options.beams]
        rows.append((label, *(str(ratios[name]) if name in ratios else f"{figures[name]:.3g}" for name in names)))
    settings = vars(options) | {"model": Path(options.model).name or "the sample's base", "n_docs": N_DOCS}
    for name, told in ratios.items():
        figures |= told.figures(name)
    report("generation", rows, settings | figures, ("torch", "transformers"))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
