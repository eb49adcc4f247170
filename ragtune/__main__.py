"""The `ragtune` command: ask a fine-tuned model, hand it to Hugging Face, compare runs, tidy a workspace."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ragtune import ask
from ragtune.errors import RagtuneError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it went well, 1 after an error that the user can fix, reported in one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "ask":
            return ask.run(options)
        if options.command == "gc":
            return collect_garbage(options.workspace, options.keep, options.keep_days, options.delete)
        if options.command == "ablation":
            return ablation(options.runs, options.output)
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


def ablation(runs: Sequence[tuple[str, str]], output: str) -> int:
    """Write a page that compares finished runs as the arms of an ablation, and print what it finds.

    Raises:
        EvaluationError: as `ablation_of`.
        StorageError: the page cannot be written.
    """
    from ragtune.evaluation.ablation_runs import ablation_of
    from ragtune.evaluation.ablation_section import verdict, write_ablation

    found = ablation_of(runs)
    write_ablation(output, found)
    print(*verdict(found), f"report   {output}", sep="\n")
    return 0


def collect_garbage(workspace: str, keep: Sequence[str], keep_days: float, delete: bool) -> int:
    """List what nothing refers to in a workspace, and remove it if asked to; 1 if something could not be removed.

    Raises:
        StorageError: there is no such workspace.
    """
    from ragtune.knowledge.garbage import Search

    found = Search(Path(workspace), [Path(folder) for folder in keep], keep_days).run()
    failed = 0
    for item in found.garbage:
        print(f"{item.bytes / 2**20:10,.1f} MiB  {item.kind:<16}  {item.place}: {item.why}")
        if delete:
            try:
                item.remove()
            except RagtuneError as error:
                failed += 1
                print(f"ragtune: {' '.join(str(error).split())}", file=sys.stderr)
    for version, holder in found.kept.items():
        print(f"{'':>14}  {'kept':<16}  {version}: {holder}")
    for warning in found.warnings:
        print(f"ragtune: left alone: {' '.join(warning.split())}", file=sys.stderr)
    size = sum(item.bytes for item in found.garbage) / 2**20
    done = "removed" if delete else "nothing was removed; --delete does"
    print(f"{size:10,.1f} MiB  {len(found.garbage)} that nothing refers to; {done}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ragtune", description="Fine-tuned retrieval-augmented generation.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    ask.add_arguments(
        commands.add_parser("ask", help="ask a model questions", description="Answer questions from passages.")
    )
    export = commands.add_parser(
        "export",
        help="write a model for Hugging Face",
        description="Write a folder that RagSequenceForGeneration.from_pretrained loads.",
    )
    export.add_argument("--model", required=True, metavar="DIR", help="model folder, as a run leaves it")
    export.add_argument("--output", required=True, metavar="DIR", help="folder to write, whole or not at all")
    compared = commands.add_parser(
        "ablation",
        help="compare runs that train one part, the other, or both",
        description="Write an HTML page that compares finished runs from one start on the same questions: whether each "
        "part learns, and whether training both is better than one.",
    )
    compared.add_argument(
        "runs",
        nargs="+",
        type=_arm,
        metavar="NAME=DIR",
        help="name of an arm and folder of a run; the same name again is another run of that arm",
    )
    compared.add_argument("--output", required=True, metavar="FILE", help="HTML file to write")
    gc = commands.add_parser(
        "gc",
        help="remove what nothing refers to",
        description="List what a workspace holds that nothing refers to: versions of knowledge bases, embeddings, work "
        "folders of trainings, temporary folders of killed processes, collections on a Milvus server.",
    )
    gc.add_argument("workspace", metavar="WORKSPACE", help="workspace of the runs")
    gc.add_argument("--delete", action="store_true", help="remove it, instead of listing it alone")
    gc.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="DIR",
        help="another folder of runs or models, whose versions are kept",
    )
    gc.add_argument(
        "--keep-days",
        type=float,
        default=30.0,
        metavar="N",
        help="days to keep what another machine's process holds, and what can be resumed (default: %(default)g)",
    )
    return parser


def _arm(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not (name and folder):
        raise argparse.ArgumentTypeError(f"{text}: must be NAME=DIR, such as rag=runs/latest")
    return name, folder


if __name__ == "__main__":
    sys.exit(main())
