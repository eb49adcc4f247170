"""The `ragtune` command: ask a fine-tuned model questions, or hand it to Hugging Face's RAG classes."""

import argparse
import os
import sys
from collections.abc import Sequence

from ragtune import ask
from ragtune.errors import RagtuneError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it went well, 1 after an error that the user can mend, told in one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "ask":
            return ask.run(options)
        export(options.model, options.output)
    except RagtuneError as error:
        print(f"ragtune: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has had enough; nothing is to be flushed at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def export(model_folder: str, output_folder: str) -> None:
    """Write a model as a folder that `RagSequenceForGeneration.from_pretrained` loads, with the same weights.

    Raises:
        ModelError: the model is missing or broken, or its parts are none that Hugging Face's RAG classes know.
    """
    ask.quiet_transformers()
    from ragtune.models.checkpoint import export_huggingface, load_model

    export_huggingface(load_model(model_folder), output_folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ragtune", description="Fine-tuned retrieval-augmented generation.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    ask.add_arguments(
        commands.add_parser("ask", help="ask a model questions", description="Answer questions from passages.")
    )
    export = commands.add_parser(
        "export", help="write a model for Hugging Face", description="For RagSequenceForGeneration.from_pretrained."
    )
    export.add_argument("--model", required=True, metavar="DIR", help="model folder, as a run leaves it")
    export.add_argument("--output", required=True, metavar="DIR", help="folder to write, whole or not at all")
    return parser


if __name__ == "__main__":
    sys.exit(main())
