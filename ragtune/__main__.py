"""The `ragtune` command: ask a fine-tuned model a question, or hand it to Hugging Face's RAG classes."""

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.errors import ModelError, RagtuneError

_NARROWEST, _WIDEST = 60, 120  # columns of the table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it went well, 1 after an error that the user can mend, told in one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "export":
            export(options.model, options.output)
            return 0
        answer = ask_one(options.model, options.question, options.knowledge_base, options.num_beams)
    except RagtuneError as error:
        print(f"ragtune: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    try:
        print(json.dumps(answer, ensure_ascii=False, indent=2) if options.json else _as_table(answer), flush=True)
    except BrokenPipeError:  # the reader, such as head, has had enough; nothing is to be flushed at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def ask_one(model_folder: str, question: str, knowledge_base_folder: str = "", num_beams: int = 2) -> dict[str, Any]:
    """Put one question to a model.

    Args:
        model_folder: what `finetune` or `save_model` wrote.
        question: any text.
        knowledge_base_folder: "" takes the one that the model was trained with, from its ragtune.json.
        num_beams: beams a passage.

    Returns:
        {"question", "answer", "passages": [{"id", "title", "text", "probability"}, …]}, most probable first.

    Raises:
        ModelError, KnowledgeBaseError: what is needed is missing, broken, or does not fit.
    """
    if not question.strip():
        raise ModelError("the question is empty")
    _quiet_transformers()
    from ragtune.evaluation.asking import ask
    from ragtune.knowledge.knowledge_base import KnowledgeBase
    from ragtune.models.checkpoint import load_model

    folder = knowledge_base_folder or _trained_with(model_folder)
    model = load_model(model_folder)
    with KnowledgeBase.open(folder, encoder_fingerprint=model.passage_encoder.fingerprint) as base:
        asked = ask(model, base, [question], num_beams=num_beams)
        found = zip(asked.rows[0].tolist(), asked.probabilities[0].tolist(), strict=True)
        passages = [(base.passages[row], probability) for row, probability in found if row >= 0]
    return {
        "question": question,
        "answer": asked.answers[0],
        "passages": [
            {"id": passage.id, "title": passage.title, "text": passage.text, "probability": probability}
            for passage, probability in passages
        ],
    }


def export(model_folder: str, output_folder: str) -> None:
    """Write a model as a folder that `RagSequenceForGeneration.from_pretrained` loads, with the same weights.

    Raises:
        ModelError: the model is missing or broken, or its parts are none that Hugging Face's RAG classes know.
    """
    _quiet_transformers()
    from ragtune.models.checkpoint import export_huggingface, load_model

    export_huggingface(load_model(model_folder), output_folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ragtune", description="Fine-tuned retrieval-augmented generation.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    ask = commands.add_parser("ask", help="ask a model a question", description="Answer a question from passages.")
    ask.add_argument("question")
    ask.add_argument("--model", required=True, metavar="DIR", help="model folder, as a run leaves it")
    ask.add_argument(
        "--knowledge-base", default="", metavar="DIR", help="default: the one that the model was trained with"
    )
    ask.add_argument(
        "--num-beams", type=_at_least_one, default=2, metavar="N", help="beams a passage (default: %(default)s)"
    )
    ask.add_argument("--json", action="store_true", help="for programs: question, answer and passages as JSON")
    export = commands.add_parser(
        "export", help="write a model for Hugging Face", description="For RagSequenceForGeneration.from_pretrained."
    )
    export.add_argument("--model", required=True, metavar="DIR", help="model folder, as a run leaves it")
    export.add_argument("--output", required=True, metavar="DIR", help="folder to write, whole or not at all")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number, 1 or more")
    return int(text)


def _trained_with(model_folder: str) -> str:
    from ragtune.models.checkpoint import read_description

    recorded = read_description(model_folder)["lineage"].get("knowledge_base", {}).get("path", "")
    if not recorded:
        raise ModelError(f"{model_folder}/ragtune.json: names no knowledge base; give one with --knowledge-base")
    if not Path(recorded).is_dir():
        raise ModelError(f"{recorded}: the knowledge base of {model_folder} is gone; give one with --knowledge-base")
    return recorded


def _as_table(answer: dict[str, Any]) -> str:
    width = min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
    lines = [answer["answer"] or "(no answer)", "", "p(z|x)  passage"]
    for passage in answer["passages"]:
        text = f"{passage['title']}: {passage['text']}" if passage["title"] else passage["text"]
        first, *rest = textwrap.wrap(text, width - 8, max_lines=3, placeholder=" …") or [""]
        lines += [f"{passage['probability']:6.3f}  {first}", *(f"        {line}" for line in rest)]
    return "\n".join(lines)


def _quiet_transformers() -> None:
    """No bars for weights that load in a moment; an answer is all that is wanted."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
