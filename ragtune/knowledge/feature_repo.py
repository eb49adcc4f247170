"""Feast's side of a knowledge base: feature_store.yaml, entity, feature view, offline source."""

import os
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.errors import FeatureViewNotFoundException
from feast.types import Array, Float32, String

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_file
from ragtune.knowledge.manifest import EMBEDDED_DATABASE, MANIFEST, METRIC, read_manifest
from ragtune.knowledge.online_store import BatchedMilvusOnlineStore

TOKEN_VARIABLE = "RAGTUNE_MILVUS_TOKEN"  # noqa: S105
OFFLINE_SOURCE = "features.parquet"
PASSAGE = Entity(name="passage", join_keys=["id"], value_type=ValueType.STRING, description="A piece of text")

FEATURE_STORE = "feature_store.yaml"
_DEFINITIONS, _REGISTRY = "features.py", "registry.db"
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
# Build and search parameters: recall@10 is .991 on 50,000 vectors (benchmarks/retrieval.py). Embedded Milvus
# 3.2 found no more with M 32 than with 16.
_INDEXES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "HNSW": ({"M": 16, "efConstruction": 200}, {"ef": 160}),
    "FLAT": ({}, {}),
}
_FEATURES_PY = '''"""What this knowledge base holds, as Feast reads it: `feast -c <this folder> feature-views list`."""

from pathlib import Path

from ragtune.knowledge.feature_repo import PASSAGE, serving_view

passage = PASSAGE
passages = serving_view(Path(__file__).parent)
'''


def passages_view(version: str, dimension: int, metric: str = METRIC) -> FeatureView:
    """The feature view of one version: id (the entity's key), title, text, content_hash, embedding.

    Args:
        version: its name, such as `kb_v1`, and the folder that its offline source is in.
        dimension: of the embedding, set on its Field together with the metric.
        metric: "IP" for inner product.
    """
    embedding = Field(
        name="embedding",
        dtype=Array(Float32),
        vector_index=True,
        vector_length=dimension,
        vector_search_metric=metric,
        description="The passage encoder's vector of title and text",
    )
    return FeatureView(
        name=version,
        entities=[PASSAGE],
        ttl=timedelta(0),
        schema=[
            Field(name="id", dtype=String),
            Field(name="title", dtype=String),
            Field(name="text", dtype=String),
            Field(name="content_hash", dtype=String, description="Of title and text: tells which rows have changed"),
            embedding,
        ],
        source=FileSource(path=f"{version}/{OFFLINE_SOURCE}", timestamp_field="event_timestamp"),
    )


def serving_view(folder: Path) -> FeatureView:
    """The feature view that a knowledge base serves, from its manifest.

    Raises:
        KnowledgeBaseError: there is no knowledge base.
    """
    manifest = read_manifest(folder / MANIFEST)
    if manifest is None:
        raise KnowledgeBaseError(f"{folder}: no knowledge base there (no {MANIFEST}); run ingest_passages first")
    return passages_view(manifest.version, manifest.dimension, manifest.metric)


def write_feature_repo(folder: Path, name: str, uri: str, index: str) -> None:
    """Write feature_store.yaml and features.py; where they are already, only check that they say the same.

    Args:
        folder: of the knowledge base.
        name: the Feast project.
        uri: of a Milvus server, "" for the embedded one in `folder`.
        index: "HNSW" or "FLAT".

    Raises:
        KnowledgeBaseError: a parameter is not possible, or the knowledge base that is there has another one.
        StorageError: it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise KnowledgeBaseError(f'name "{name}": only letters, digits and _, with a letter first, as Feast demands')
    if index not in _INDEXES:
        raise KnowledgeBaseError(f'index "{index}": choose one of {", ".join(_INDEXES)}; Milvus Lite ignores others')
    if uri and (urlsplit(uri).username or urlsplit(uri).password):
        raise KnowledgeBaseError(
            f"the Milvus URI for {folder} holds a password; put it into the environment variable {TOKEN_VARIABLE} as "
            "user:password, so that it is never written to disk"
        )
    if uri and urlsplit(uri).scheme not in ("http", "https"):
        raise KnowledgeBaseError(f"{uri}: is no URI of a Milvus server, such as http://127.0.0.1:19530")
    wanted = _feast_config(name, uri, index)
    path = folder / FEATURE_STORE
    if not path.exists():
        with atomic_file(path) as stream:
            yaml.safe_dump(wanted, stream, sort_keys=False)
    elif differing := [key for key, value in _flat(wanted).items() if _flat(_read_yaml(path)).get(key) != value]:
        raise KnowledgeBaseError(
            f"{path}: this knowledge base has another {' and '.join(differing)} than asked for; choose another folder, "
            "or change that file if the same data is now reached in another way"
        )
    if not (folder / _DEFINITIONS).exists():
        with atomic_file(folder / _DEFINITIONS) as stream:
            stream.write(_FEATURES_PY)


def open_feature_store(folder: Path, token: str = "") -> FeatureStore:
    """Feast's store of a knowledge base; nothing is connected yet.

    Args:
        folder: of the knowledge base.
        token: for the Milvus server; "" takes the environment variable RAGTUNE_MILVUS_TOKEN, if it is set.

    Raises:
        KnowledgeBaseError: feature_store.yaml is missing or broken.
    """
    path = folder / FEATURE_STORE
    if not path.exists():
        raise KnowledgeBaseError(f"{folder}: no {FEATURE_STORE} there; run ingest_passages first")
    try:
        store = FeatureStore(repo_path=str(folder))
        online = store.config.online_store
    except Exception as error:  # Feast raises whatever its YAML, pydantic and registry raise
        reason = str(error)
        if secret := os.environ.get(TOKEN_VARIABLE):  # pydantic repeats what it was given
            reason = reason.replace(secret, "***")
        raise KnowledgeBaseError(f"{path}: Feast cannot use it: {reason}") from None
    online.token = token or os.environ.get(TOKEN_VARIABLE) or None
    return store


def batched_store(store: FeatureStore) -> BatchedMilvusOnlineStore:
    """The online store of a Feast store.

    Raises:
        KnowledgeBaseError: feature_store.yaml names another kind.
    """
    online = store._get_provider().online_store  # Feast has no public way to it
    if not isinstance(online, BatchedMilvusOnlineStore):
        raise KnowledgeBaseError(
            f"{store.repo_path}/feature_store.yaml: its online store is {type(online).__name__}, which cannot search "
            "in batches; type must be ragtune.knowledge.online_store.BatchedMilvusOnlineStore"
        )
    return online


def apply_view(store: FeatureStore, folder: Path, view: FeatureView) -> None:
    """Register entity and view with Feast, which makes the Milvus collection if there is none.

    The registry holds nothing that cannot be made again, so one that a killed process left broken is replaced.
    """
    registry = folder / _REGISTRY
    try:
        store.refresh_registry()
    except Exception:  # protobuf's DecodeError, and what Feast wraps around it
        registry.unlink(missing_ok=True)
    store.apply([PASSAGE, view])


def registered_view(store: FeatureStore, version: str) -> FeatureView:
    """A version's view from Feast's registry.

    Raises:
        KnowledgeBaseError: it is not there.
    """
    try:
        return store.get_feature_view(version)
    except FeatureViewNotFoundException as error:
        raise KnowledgeBaseError(
            f"{store.repo_path}: {version} is not in Feast's registry; was {_REGISTRY} deleted? `feast -c "
            f"{store.repo_path} apply` makes it again"
        ) from error


def forget_view(store: FeatureStore, view: FeatureView) -> None:
    """Take a view out of Feast's registry."""
    if any(known.name == view.name for known in store.list_feature_views()):
        store.delete_feature_view(view.name)


def _feast_config(name: str, uri: str, index: str) -> dict[str, object]:
    build, search = _INDEXES[index]
    online = {
        "type": "ragtune.knowledge.online_store.BatchedMilvusOnlineStore",
        **({"uri": uri, "token": f"${{{TOKEN_VARIABLE}}}"} if uri else {"path": EMBEDDED_DATABASE}),
        "index_type": index,
        "metric_type": METRIC,
        "index_params": build,
        "search_params": search,
    }
    return {
        "project": name,
        "provider": "local",
        "registry": _REGISTRY,
        "online_store": online,
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise KnowledgeBaseError(f"{path}: cannot be read: {error}") from error


def _flat(config: dict[str, object]) -> dict[str, object]:
    """What must be equal between two runs, under the names that the parameters have."""
    online = config.get("online_store")
    online = online if isinstance(online, dict) else {}
    return {"name": config.get("project"), "uri": online.get("uri", ""), "index": online.get("index_type")}
