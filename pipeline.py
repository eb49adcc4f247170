"""The DAG on one page, and its command line: python pipeline.py compile | run | submit | schedule | …"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import dsl

from components.check_answerability import check_answerability
from components.check_inputs import check_inputs
from components.evaluate_rag import evaluate_rag
from components.filter_questions import filter_questions
from components.finetune_rag import finetune_rag
from components.ingest_passages import ingest_passages
from components.register_model import register_model
from components.split_passages import split_passages
from components.tokenize_pairs import tokenize_pairs
from ragtune.errors import RagtuneError
from ragtune.files import atomic_file
from ragtune.kubeflow import commands as cluster
from ragtune.kubeflow.local_run import run_here
from ragtune.kubeflow.package import compiled_text
from ragtune.kubeflow.parameters import check_values, documented, read_parameters, with_defaults
from ragtune.kubeflow.pods import WORKSPACE, place
from ragtune.kubeflow.run_folder import new_folder, point_latest, summary

RUNS = Path("runs")
LOCAL_WORKSPACE = RUNS / "workspace"
COMPILED = Path(__file__).parent / "compiled" / "rag_finetuning.yaml"
OWN_COMPILED = Path("rag_finetuning.yaml")  # with images of one's own; the committed one has the default ones


@dsl.pipeline(name="rag-finetuning")
@documented
def rag_finetuning(
    questions: str,
    corpus: str,
    validation_questions: str = "",
    test_questions: str = "",
    question_layout: str = "auto",
    quoting: str = "auto",
    max_answer_words: int = 5,
    max_questions: int = 0,
    max_test_questions: int = 0,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.1,
    split_by: str = "question",
    max_rejected_fraction: float = 0.5,
    max_passage_words: int = 100,
    question_encoder: str = "facebook/dpr-question_encoder-single-nq-base",
    passage_encoder: str = "facebook/dpr-ctx_encoder-single-nq-base",
    generator: str = "facebook/bart-large",
    knowledge_base: str = "passages",
    milvus_uri: str = "",
    index: str = "auto",
    answerable_k: int = 10,
    max_question_tokens: int = 32,
    max_answer_tokens: int = 32,
    method: str = "rag",
    method_options: dict = {},  # noqa: B006 (read only; KFP takes no None)
    retrieval: str = "direct",
    n_docs: int = 5,
    temperature: float = 1.0,
    prompt: str = "{title} / {text} // {question}",
    max_input_tokens: int = 300,
    max_steps: int = 1000,
    batch_size: int = 16,
    gradient_accumulation_steps: int = 1,
    learning_rate: float = 3e-5,
    question_encoder_learning_rate: float = 0.0,
    passage_encoder_learning_rate: float = 0.0,
    refresh_every: int = 100,
    max_staleness: int = 0,
    refresh_device: str = "",
    adam_beta2: float = 0.999,
    warmup_steps: float = 0.05,
    eval_steps: float = 100,
    closed_book_steps: int = -1,
    processes: int = 0,
    training_options: dict = {},  # noqa: B006 (read only; KFP takes no None)
    num_beams: int = 2,
    seed: int = 0,
    model_name: str = "ragtune",
    promote: str = "auto",
    min_test_questions: int = 100,
    tracking_uri: str = "",
    model_registry_url: str = "",
    workspace: str = WORKSPACE,
    workspace_volume: str = "ragtune-workspace",
    launcher: str = "torchrun",
    nodes: int = 1,
    gpus: str = "1",
    gpu_resource: str = "nvidia.com/gpu",
    train_memory: str = "64Gi",
    train_cpus: str = "8",
    train_env: dict = {},  # noqa: B006 (read only; KFP takes no None)
    training_runtime: str = "torch-distributed",
    keep_trainjob: bool = False,
    embed_gpus: str = "1",
    embed_memory: str = "32Gi",
    embed_cpus: str = "4",
    data_memory: str = "8Gi",
    data_cpus: str = "2",
    node_selector: dict = {},  # noqa: B006 (read only; KFP takes no None)
    tolerations: list = [],  # noqa: B006 (read only; KFP takes no None)
):
    """Fine-tune a RAG model on questions and a corpus; register it if it is better than before."""
    sources = check_inputs(**locals()).set_caching_options(False)  # all parameters, as nothing else is named yet
    encoders = {"question_encoder": question_encoder, "passage_encoder": passage_encoder}
    fingerprints = {f"{part}_fingerprint": sources.outputs[part] for part in (*encoders, "generator")}
    # What a box gets as an artifact of a box that is never cached would never be cached either: hence pointers as text.

    filtered = filter_questions(
        questions=questions,
        questions_fingerprint=sources.outputs["questions"],
        validation_questions=validation_questions,
        test_questions=test_questions,
        question_layout=question_layout,
        quoting=quoting,
        max_answer_words=max_answer_words,
        max_questions=max_questions,
        max_test_questions=max_test_questions,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        split_by=split_by,
        max_rejected_fraction=max_rejected_fraction,
    )
    split = split_passages(
        corpus=corpus,
        corpus_fingerprint=sources.outputs["corpus"],
        max_passage_words=max_passage_words,
        quoting=quoting,
    )
    ingested = ingest_passages(
        passages=split.outputs["passages"],
        passage_encoder=passage_encoder,
        workspace=workspace,
        name=knowledge_base,
        milvus_uri=milvus_uri,
        index=index,
    ).set_caching_options(False)  # a cached pointer may name a version that is gone or damaged by now
    checked = check_answerability(
        questions=filtered.outputs["train"],
        knowledge_base=ingested.outputs["pointer"],
        question_encoder=question_encoder,
        question_encoder_fingerprint=fingerprints["question_encoder_fingerprint"],
        answerable_k=answerable_k,
    )
    tokenized = tokenize_pairs(
        train=checked.outputs["answerable"],
        validation=filtered.outputs["validation"],
        question_encoder=question_encoder,
        generator=generator,
        question_encoder_fingerprint=fingerprints["question_encoder_fingerprint"],
        generator_fingerprint=fingerprints["generator_fingerprint"],
        max_question_tokens=max_question_tokens,
        max_answer_tokens=max_answer_tokens,
    )
    finetuned = finetune_rag(
        pairs=tokenized.outputs["pairs"],
        knowledge_base=ingested.outputs["pointer"],
        generator=generator,
        **encoders,
        **fingerprints,
        workspace=workspace,
        method=method,
        method_options=method_options,
        retrieval=retrieval,
        n_docs=n_docs,
        temperature=temperature,
        prompt=prompt,
        max_input_tokens=max_input_tokens,
        max_steps=max_steps,
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        learning_rate=learning_rate,
        question_encoder_learning_rate=question_encoder_learning_rate,
        passage_encoder_learning_rate=passage_encoder_learning_rate,
        refresh_every=refresh_every,
        max_staleness=max_staleness,
        refresh_device=refresh_device,
        adam_beta2=adam_beta2,
        warmup_steps=warmup_steps,
        eval_steps=eval_steps,
        closed_book_steps=closed_book_steps,
        launcher=launcher,
        nodes=nodes,
        gpus=gpus,
        gpu_resource=gpu_resource,
        train_memory=train_memory,
        train_cpus=train_cpus,
        train_env=train_env,
        training_runtime=training_runtime,
        keep_trainjob=keep_trainjob,
        processes=processes,
        seed=seed,
        training_options=training_options,
        tracking_uri=tracking_uri,
    )
    evaluated = evaluate_rag(
        test=filtered.outputs["test"],
        model=finetuned.outputs["model"],
        closed_book_model=finetuned.outputs["closed_book_model"],
        knowledge_base=ingested.outputs["knowledge_base"],
        trained_knowledge_base=finetuned.outputs["trained_knowledge_base"],
        rejected=filtered.outputs["rejected"],
        generator=generator,
        **encoders,
        model_name=model_name,
        workspace=workspace,
        tracking_uri=tracking_uri,
        num_beams=num_beams,
        answerable_k=answerable_k,
        retrieval=retrieval,
    ).set_caching_options(False)  # today's champion may be another than the last time
    registered = register_model(
        model=finetuned.outputs["model"],
        evaluation=evaluated.outputs["evaluation"],
        model_name=model_name,
        workspace=workspace,
        questions_fingerprint=sources.outputs["questions"],
        corpus_fingerprint=sources.outputs["corpus"],
        tracking_uri=tracking_uri,
        model_registry_url=model_registry_url,
        promote=promote,
        min_test_questions=min_test_questions,
    ).set_caching_options(False)

    pod = {"volume": workspace_volume, "node_selector": node_selector, "tolerations": tolerations}
    gpu_pod = {"gpu_resource": gpu_resource, **pod}
    own = {name: sources.outputs[f"pod_{name}"] for name in ("gpus", "memory", "cpus")}  # little beside a TrainJob
    for task in (sources, filtered, split, tokenized, registered):
        place(task, memory=data_memory, cpus=data_cpus, **pod)
    for task in (ingested, checked, evaluated):
        place(task, memory=embed_memory, cpus=embed_cpus, gpus=embed_gpus, **gpu_pod)
    place(finetuned, **own, **gpu_pod)
    for task in (ingested, finetuned):  # they go on where a pod that was evicted stood
        task.set_retry(num_retries=2, backoff_duration="60s")


def compile_pipeline(target: Path = COMPILED, check: bool = False, images: Mapping[str, Any] = {}) -> None:
    """Write the pipeline's YAML to `target`; with `check`, only complain where it is not what would be written.

    Args:
        target: where to.
        check: write nothing.
        images: arguments of `set_images`, for other images than those of the components.
    """
    fresh = compiled_text(rag_finetuning, images)
    if not check:
        with atomic_file(target) as stream:
            stream.write(fresh)
    elif not target.exists() or target.read_text(encoding="utf-8") != fresh:
        raise RagtuneError(f"{target}: not what pipeline.py compiles to; run `python pipeline.py compile`")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fine-tune retrieval-augmented generation, here or on a cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    compiling = commands.add_parser("compile", help="write compiled/rag_finetuning.yaml, for the KFP UI")
    compiling.add_argument("--output", type=Path, help=f"where to write it (with other images: ./{OWN_COMPILED})")
    compiling.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    cluster.add_images(compiling)
    running = commands.add_parser("run", help="run the whole DAG on this machine")
    running.add_argument("--params", required=True, metavar="FILE", help="YAML of parameters, see params/")
    running.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override one parameter")
    running.add_argument(
        "--output", type=Path, metavar="DIR", help="the run's own, new folder (default runs/<date and time>)"
    )
    cluster.add_commands(commands)
    options = parser.parse_args(arguments)
    try:
        if options.command == "compile":
            images = cluster.images_given(options)
            compile_pipeline(options.output or (OWN_COMPILED if images else COMPILED), options.check, images)
        elif options.command in cluster.COMMANDS:
            cluster.execute(options, rag_finetuning)
        else:
            given = read_parameters(rag_finetuning.pipeline_func, options.params, options.set)
            parameters = {"workspace": str(LOCAL_WORKSPACE.absolute()), **given}
            values = with_defaults(rag_finetuning.pipeline_func, parameters)
            check_values(values)
            from ragtune.reachable import check_reachable  # here, since it takes seconds that compiling need not wait

            check_reachable(values)
            output = options.output or new_folder(RUNS)
            figures = run_here(rag_finetuning, parameters, output)
            point_latest(output, RUNS)
            print("\n" + summary(figures, output))
    except RagtuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
