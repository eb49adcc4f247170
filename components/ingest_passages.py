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
    embed_on: str = "here",
    tracking_uri: str = "",
) -> NamedTuple("Ingested", pointer=str):
    """Embed the passages and write them through Feast into Milvus; a second run writes only what changed."""
    from ragtune.knowledge.pointers import as_text
    from ragtune.knowledge.workspace import ingest_into_workspace
    from ragtune.models.encoders import Encoder
    from ragtune.models.ray_encoder import encoder_on
    from ragtune.registry.downloads import models_here

    with (
        models_here(tracking_uri, passage_encoder) as (model,),
        encoder_on(embed_on, Encoder.from_pretrained(model, role="passage")) as encoder,
    ):
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
