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
from components.summarize_run import summarize_run
from components.tokenize_pairs import tokenize_pairs
from ragtune.errors import RagtuneError
from ragtune.files import atomic_file
from ragtune.kubeflow import commands as cluster
from ragtune.kubeflow.local_run import run_here
from ragtune.kubeflow.package import compiled_text
from ragtune.kubeflow.parameters import check_installed, check_values, documented, read_parameters, with_defaults
from ragtune.kubeflow.pods import WORKSPACE, fitted, mounts_none, place, without_volume
from ragtune.kubeflow.run_folder import new_folder, point_latest, summary
from ragtune.settings.pipeline import TRAIN, name_here

RUNS = Path("runs")
LOCAL_WORKSPACE = RUNS / "workspace"
COMPILED = Path(__file__).parent / "compiled" / "rag_finetuning.yaml"
OWN_COMPILED = Path("rag_finetuning.yaml")  # with images of one's own; the committed one has the default ones


@dsl.pipeline(name="rag-finetuning")
@documented
def rag_finetuning(
    data_questions: str,
    knowledge_corpus: str,
    data_validation_questions: str = "",
    data_test_questions: str = "",
    data_question_layout: str = "auto",
    data_quoting: str = "auto",
    data_max_answer_words: int = 5,
    data_max_questions: int = 0,
    data_max_test_questions: int = 0,
    data_validation_fraction: float = 0.05,
    data_test_fraction: float = 0.1,
    data_split_by: str = "question",
    data_max_rejected_fraction: float = 0.5,
    knowledge_max_passage_words: int = 100,
    model_question_encoder: str = "facebook/dpr-question_encoder-single-nq-base",
    model_passage_encoder: str = "facebook/dpr-ctx_encoder-single-nq-base",
    model_generator: str = "facebook/bart-large",
    model_start_from: str = "base",
    knowledge_base: str = "passages",
    knowledge_milvus_uri: str = "",
    knowledge_index: str = "auto",
    knowledge_when_busy: str = "wait",
    knowledge_embed_on: str = "here",
    knowledge_answerable_k: int = 10,
    model_max_question_tokens: int = 32,
    model_max_answer_tokens: int = 32,
    train_method: str = "rag",
    train_method_options: dict = {},  # noqa: B006 (read only; KFP takes no None)
    train_retrieval: str = "direct",
    train_n_docs: int = 5,
    train_temperature: float = 1.0,
    train_prompt: str = "{title} / {text} // {question}",
    train_max_input_tokens: int = 300,
    train_max_steps: int = 1000,
    train_batch_size: int = 16,
    train_gradient_accumulation_steps: int = 1,
    train_learning_rate: float = 3e-5,
    train_question_encoder_learning_rate: float = 0.0,
    train_passage_encoder_learning_rate: float = 0.0,
    train_refresh_every: int = 100,
    train_max_staleness: int = 0,
    train_refresh_device: str = "",
    train_adam_beta2: float = 0.999,
    train_warmup_steps: float = 0.05,
    train_eval_steps: float = 100,
    train_closed_book_steps: int = -1,
    train_processes: int = 0,
    training_options: dict = {},  # noqa: B006 (read only; KFP takes no None)
    evaluation_num_beams: int = 2,
    train_seed: int = 0,
    registry_model_name: str = "ragtune",
    registry_promote: str = "auto",
    registry_when_unchanged: str = "train",
    registry_min_test_questions: int = 100,
    registry_tracking_uri: str = "",
    registry_model_registry_url: str = "",
    registry_model_storage_key: str = "",
    registry_serving_account: str = "",
    cluster_workspace: str = WORKSPACE,
    cluster_workspace_volume: str = "ragtune-workspace",
    cluster_launcher: str = "torchrun",
    cluster_nodes: int = 1,
    cluster_gpus: str = "1",
    cluster_gpu_resource: str = "nvidia.com/gpu",
    cluster_train_memory: str = "64Gi",
    cluster_train_cpus: str = "8",
    cluster_train_env: dict = {},  # noqa: B006 (read only; KFP takes no None)
    cluster_training_runtime: str = "torch-distributed",
    cluster_keep_trainjob: bool = False,
    cluster_embed_gpus: str = "1",
    cluster_embed_memory: str = "32Gi",
    cluster_embed_cpus: str = "4",
    cluster_data_memory: str = "8Gi",
    cluster_data_cpus: str = "2",
    cluster_node_selector: dict = {},  # noqa: B006 (read only; KFP takes no None)
    cluster_tolerations: list = [],  # noqa: B006 (read only; KFP takes no None)
):
    """Fine-tune a RAG model on questions and a corpus; register it if it is better than before."""
    parameters = {name_here(name): value for name, value in locals().items()}  # all, as nothing else is named yet
    summarized = summarize_run(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER).set_caching_options(False)
    with dsl.ExitHandler(summarized):
        sources = check_inputs(**parameters).set_caching_options(False)
        with dsl.If(sources.outputs["Output"] == TRAIN, name="train"):
            start = {part: sources.outputs[part] for part in ("question_encoder", "passage_encoder", "generator")}
            fingerprints = {f"{part}_fingerprint": sources.outputs[f"{part}_fingerprint"] for part in start}
            # What a box gets as an artifact of one that is never cached is never cached either: so pointers are text.
            # Only where no volume holds the knowledge base do its files go with them.

            filtered = filter_questions(
                questions=data_questions,
                questions_fingerprint=sources.outputs["questions"],
                validation_questions=data_validation_questions,
                test_questions=data_test_questions,
                question_layout=data_question_layout,
                quoting=data_quoting,
                max_answer_words=data_max_answer_words,
                max_questions=data_max_questions,
                max_test_questions=data_max_test_questions,
                validation_fraction=data_validation_fraction,
                test_fraction=data_test_fraction,
                split_by=data_split_by,
                max_rejected_fraction=data_max_rejected_fraction,
            )
            split = split_passages(
                corpus=knowledge_corpus,
                corpus_fingerprint=sources.outputs["corpus"],
                max_passage_words=knowledge_max_passage_words,
                quoting=data_quoting,
            )
            ingested = ingest_passages(
                passages=split.outputs["passages"],
                passage_encoder=start["passage_encoder"],
                workspace=cluster_workspace,
                name=knowledge_base,
                milvus_uri=knowledge_milvus_uri,
                index=knowledge_index,
                when_busy=knowledge_when_busy,
                run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
                workspace_volume=cluster_workspace_volume,
                embed_on=knowledge_embed_on,
                tracking_uri=registry_tracking_uri,
            ).set_caching_options(False)  # a cached pointer may name a version that is gone or damaged by now
            travels = mounts_none(cluster_workspace_volume)
            files = {"knowledge_base_files": ingested.outputs["knowledge_base"]} if travels else {}
            checked = check_answerability(
                questions=filtered.outputs["train"],
                knowledge_base=ingested.outputs["pointer"],
                question_encoder=start["question_encoder"],
                question_encoder_fingerprint=fingerprints["question_encoder_fingerprint"],
                answerable_k=knowledge_answerable_k,
                tracking_uri=registry_tracking_uri,
                **files,
            )
            tokenized = tokenize_pairs(
                train=checked.outputs["answerable"],
                validation=filtered.outputs["validation"],
                question_encoder=start["question_encoder"],
                generator=start["generator"],
                question_encoder_fingerprint=fingerprints["question_encoder_fingerprint"],
                generator_fingerprint=fingerprints["generator_fingerprint"],
                max_question_tokens=model_max_question_tokens,
                max_answer_tokens=model_max_answer_tokens,
                tracking_uri=registry_tracking_uri,
            )
            finetuned = finetune_rag(
                pairs=tokenized.outputs["pairs"],
                knowledge_base=ingested.outputs["pointer"],
                **start,
                **fingerprints,
                model_folder=sources.outputs["model_folder"],
                workspace=cluster_workspace,
                method=train_method,
                method_options=train_method_options,
                retrieval=train_retrieval,
                n_docs=train_n_docs,
                temperature=train_temperature,
                prompt=train_prompt,
                max_input_tokens=train_max_input_tokens,
                max_steps=train_max_steps,
                batch_size=train_batch_size,
                gradient_accumulation_steps=train_gradient_accumulation_steps,
                learning_rate=train_learning_rate,
                question_encoder_learning_rate=train_question_encoder_learning_rate,
                passage_encoder_learning_rate=train_passage_encoder_learning_rate,
                refresh_every=train_refresh_every,
                max_staleness=train_max_staleness,
                refresh_device=train_refresh_device,
                adam_beta2=train_adam_beta2,
                warmup_steps=train_warmup_steps,
                eval_steps=train_eval_steps,
                closed_book_steps=train_closed_book_steps,
                launcher=cluster_launcher,
                nodes=cluster_nodes,
                gpus=cluster_gpus,
                gpu_resource=cluster_gpu_resource,
                train_memory=cluster_train_memory,
                train_cpus=cluster_train_cpus,
                train_env=cluster_train_env,
                training_runtime=cluster_training_runtime,
                keep_trainjob=cluster_keep_trainjob,
                processes=train_processes,
                seed=train_seed,
                training_options=training_options,
                tracking_uri=registry_tracking_uri,
                **files,
            )
            trained_files = (
                {"trained_knowledge_base": finetuned.outputs["trained_knowledge_base"], **files} if travels else {}
            )
            evaluated = evaluate_rag(
                test=filtered.outputs["test"],
                model=finetuned.outputs["model"],
                closed_book_model=finetuned.outputs["closed_book_model"],
                knowledge_base=ingested.outputs["knowledge_base"],
                trained_knowledge_base=finetuned.outputs["trained_knowledge_base"],
                rejected=filtered.outputs["rejected"],
                **start,
                model_folder=sources.outputs["model_folder"],
                model_name=registry_model_name,
                workspace=cluster_workspace,
                tracking_uri=registry_tracking_uri,
                num_beams=evaluation_num_beams,
                answerable_k=knowledge_answerable_k,
                retrieval=train_retrieval,
            ).set_caching_options(False)  # today's champion may be another than the last time
            registered = register_model(
                model=finetuned.outputs["model"],
                evaluation=evaluated.outputs["evaluation"],
                model_name=registry_model_name,
                workspace=cluster_workspace,
                questions_fingerprint=sources.outputs["questions"],
                corpus_fingerprint=sources.outputs["corpus"],
                run_key=sources.outputs["run_key"],
                tracking_uri=registry_tracking_uri,
                model_registry_url=registry_model_registry_url,
                model_storage_key=registry_model_storage_key,
                serving_account=registry_serving_account,
                workspace_volume=cluster_workspace_volume,
                promote=registry_promote,
                min_test_questions=registry_min_test_questions,
                **trained_files,
            ).set_caching_options(False)

    nodes = {"node_selector": cluster_node_selector, "tolerations": cluster_tolerations}
    pod = {"volume": cluster_workspace_volume, **nodes}
    gpu_pod = {"gpu_resource": cluster_gpu_resource, **pod}
    own = {name: sources.outputs[f"pod_{name}"] for name in ("gpus", "memory", "cpus")}  # little beside a TrainJob
    for task in (sources, filtered, split, tokenized, registered, summarized):
        place(task, memory=cluster_data_memory, cpus=cluster_data_cpus, **pod)
    for task in (ingested, checked, evaluated):
        place(task, memory=cluster_embed_memory, cpus=cluster_embed_cpus, gpus=cluster_embed_gpus, **gpu_pod)
    place(finetuned, **own, **gpu_pod)
    for task in (ingested, finetuned):  # they go on where a pod that was evicted stood
        task.set_retry(num_retries=2, backoff_duration="60s")


def compile_pipeline(
    target: Path = COMPILED, check: bool = False, images: Mapping[str, Any] = {}, pipeline: Any = rag_finetuning
) -> None:
    """Write the pipeline's YAML to `target`; with `check`, only complain where it is not what would be written.

    Args:
        target: where to.
        check: write nothing.
        images: arguments of `set_images`, for other images than those of the components.
        pipeline: what is compiled.
    """
    fresh = compiled_text(pipeline, images)
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
    compiling.add_argument("--no-volume", action="store_true", help="for a cluster where pods share no volume")
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
            images, pipeline = cluster.images_given(options), rag_finetuning
            if options.no_volume:
                pipeline = without_volume(pipeline)
            own = images or options.no_volume
            compile_pipeline(options.output or (OWN_COMPILED if own else COMPILED), options.check, images, pipeline)
        elif options.command in cluster.COMMANDS:
            cluster.execute(options, rag_finetuning)
        else:
            given = read_parameters(rag_finetuning.pipeline_func, options.params, options.set)
            parameters = {"workspace": str(LOCAL_WORKSPACE.absolute()), **given}
            values = with_defaults(rag_finetuning.pipeline_func, parameters)
            check_values(values)
            check_installed(values)
            from ragtune.reachable import check_reachable  # here, since it takes seconds that compiling need not wait

            check_reachable(values)
            output = options.output or new_folder(RUNS)
            figures = run_here(*fitted(rag_finetuning, parameters), output)
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
