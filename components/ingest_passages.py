from typing import NamedTuple

from kfp import dsl

from components import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def ingest_passages(
    passages: dsl.Input[dsl.Dataset],
    knowledge_base: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    passage_encoder: str,
    workspace: str,
    name: str = "passages",
    milvus_uri: str = "",
    index: str = "auto",
    when_busy: str = "wait",
    run: str = "",
    workspace_volume: str = "ragtune-workspace",
) -> NamedTuple("Ingested", pointer=str):
    """Embed the passages and write them through Feast into Milvus; a second run writes only what changed."""
    from ragtune.knowledge.pointers import as_text
    from ragtune.knowledge.workspace import ingest_into_workspace
    from ragtune.models.devices import best_device
    from ragtune.models.encoders import Encoder

    encoder = Encoder.from_pretrained(passage_encoder, role="passage").to(best_device())
    counts = ingest_into_workspace(
        passages.path,
        knowledge_base.path,
        encoder,
        workspace,
        name=name,
        uri=milvus_uri,
        index=index,
        when_busy=when_busy,
        run=run,
        travels=not workspace_volume,
    )
    for metric, count in counts.items():
        metrics.log_metric(metric, count)
    return (as_text(knowledge_base.path),)
