"""Feast's side of a version: feature_store.yaml, entity, feature view, offline source."""

import os
import secrets
from datetime import timedelta
from pathlib import Path

import yaml
from google.protobuf.message import DecodeError

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_file
from ragtune.knowledge.address import TOKEN_VARIABLE, check_milvus_uri, check_name
from ragtune.knowledge.damage import raise_if_unavailable
from ragtune.knowledge.feast_names import (
    Array,
    Entity,
    FeatureStore,
    FeatureView,
    FeatureViewNotFoundException,
    Field,
    FileSource,
    Float32,
    String,
    ValueType,
)
from ragtune.knowledge.index import Index, check_index
from ragtune.knowledge.manifest import EMBEDDED_DATABASE, MANIFEST, METRIC, REPAIR, read_manifest
from ragtune.knowledge.online_store import BatchedMilvusOnlineStore

OFFLINE_SOURCE = "features.parquet"
PASSAGE = Entity(name="passage", join_keys=["id"], value_type=ValueType.STRING, description="A piece of text")

FEATURE_STORE = "feature_store.yaml"
REGISTRY = "registry.db"
_DEFINITIONS = "features.py"
_FEATURES_PY = '''"""The features of this version, as Feast reads them: `feast -c <this folder> feature-views list`."""

from pathlib import Path

from ragtune.knowledge.feature_repo import PASSAGE, view_of

passage = PASSAGE
passages = view_of(Path(__file__).parent)
'''


def passages_view(version: str, dimension: int, metric: str = METRIC) -> FeatureView:
    """The feature view of one version: id (the entity's key), title, text, content_hash, embedding.

    Args:
        version: its name, such as `kb_v1`.
        dimension: of the embedding, set on its Field together with the metric.
        metric: "IP" for inner product.
    """
    embedding = Field(
        name="embedding",
        dtype=Array(Float32),
        vector_index=True,
        vector_length=dimension,
        vector_search_metric=metric,
        description="The passage encoder's vector of title and text; online, without mean.npy where that is there",
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
        source=FileSource(path=OFFLINE_SOURCE, timestamp_field="event_timestamp"),
    )


def view_of(folder: Path) -> FeatureView:
    """The feature view of the version in a folder, from its manifest.

    Raises:
        KnowledgeBaseError: there is no whole version.
    """
    manifest = read_manifest(folder / MANIFEST)
    if manifest is None:
        raise KnowledgeBaseError(f"{folder}: no version there (no {MANIFEST}); run ingest_passages first")
    return passages_view(manifest.version, manifest.dimension, manifest.metric)


def check_choices(name: str, uri: str, index: str) -> None:
    """Refuse what no version can be made with, before anything is written.

    Args:
        name: of the knowledge base.
        uri: of a Milvus server, "" for an embedded one.
        index: one of `ragtune.knowledge.index.CHOICES`.

    Raises:
        KnowledgeBaseError: a parameter is not possible.
    """
    check_name(name)
    check_index(index)
    if uri:
        check_milvus_uri(uri)


def write_feature_repo(folder: Path, name: str, uri: str, index: Index, ending: str = "") -> None:
    """Write feature_store.yaml and features.py for one version, unless they are there.

    Args:
        folder: of the version.
        name: of the knowledge base; on a server the Feast project, which collections are named after, gets an ending
            of its own, so that no other version in any folder takes the same collection.
        uri: of a Milvus server, "" for the embedded one in `folder`.
        index: to begin with.
        ending: in place of a random one, where a collection of the same rows may be shared.

    Raises:
        KnowledgeBaseError: as `check_choices`.
        StorageError: it cannot be written.
    """
    check_choices(name, uri, index.kind)
    path = folder / FEATURE_STORE
    if not path.exists():
        project = f"{name}_{ending or secrets.token_hex(4)}" if uri else name
        with atomic_file(path) as stream:
            yaml.safe_dump(_feast_config(project, uri, index), stream, sort_keys=False)
    if not (folder / _DEFINITIONS).exists():
        with atomic_file(folder / _DEFINITIONS) as stream:
            stream.write(_FEATURES_PY)


def open_feature_store(folder: Path, token: str = "") -> FeatureStore:
    """Feast's store of a version; nothing is connected yet.

    Args:
        folder: of the version.
        token: for the Milvus server; "" takes the environment variable RAGTUNE_MILVUS_TOKEN, if it is set.

    Raises:
        KnowledgeBaseError: feature_store.yaml is missing or broken.
    """
    path = folder / FEATURE_STORE
    if not path.exists():
        raise KnowledgeBaseError(f"{folder}: no {FEATURE_STORE} there; {REPAIR}")
    try:
        store = FeatureStore(repo_path=str(folder))
        online = store.config.online_store
    except Exception as error:  # Feast raises whatever its YAML, pydantic and registry raise
        raise_if_unavailable(path, error)
        reason = str(error)
        if secret := os.environ.get(TOKEN_VARIABLE):  # pydantic repeats what it was given
            reason = reason.replace(secret, "***")
        raise KnowledgeBaseError(f"{path}: Feast cannot use it: {reason}") from None
    online.token = token or os.environ.get(TOKEN_VARIABLE) or None
    return store


def milvus_uri_of(folder: Path) -> str:
    """Return the URI of a version's Milvus server, as its feature_store.yaml says; "" for an embedded one.

    Raises:
        KnowledgeBaseError: feature_store.yaml is missing or broken.
    """
    return open_feature_store(folder).config.online_store.uri or ""


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


def index_of(store: FeatureStore) -> Index:
    """The index that a version has, as its feature_store.yaml says."""
    online = store.config.online_store
    return Index(online.index_type, dict(online.index_params or {}), dict(online.search_params or {}))


def write_index(folder: Path, store: FeatureStore, index: Index) -> None:
    """Name another index in a version's feature_store.yaml and in its open store.

    Raises:
        StorageError: it cannot be written.
    """
    path, online = folder / FEATURE_STORE, store.config.online_store
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    named = {"index_type": index.kind, "index_params": index.build, "search_params": index.search}
    config["online_store"].update(named)
    with atomic_file(path) as stream:
        yaml.safe_dump(config, stream, sort_keys=False)
    for name, value in named.items():
        setattr(online, name, value)


def apply_view(store: FeatureStore, folder: Path, view: FeatureView) -> None:
    """Register entity and view with Feast, which makes the Milvus collection if there is none.

    The registry holds nothing that cannot be made again, so one that a killed process left broken is replaced.
    """
    registry = folder / REGISTRY
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
    except (FeatureViewNotFoundException, DecodeError, OSError) as error:
        raise_if_unavailable(f"{store.repo_path}/{REGISTRY}", error)
        raise KnowledgeBaseError(
            f"{store.repo_path}: {version} is not in Feast's registry, {REGISTRY}; {REPAIR}"
        ) from error


def _feast_config(name: str, uri: str, index: Index) -> dict[str, object]:
    online = {
        "type": "ragtune.knowledge.online_store.BatchedMilvusOnlineStore",
        **({"uri": uri, "token": f"${{{TOKEN_VARIABLE}}}"} if uri else {"path": EMBEDDED_DATABASE}),
        "index_type": index.kind,
        "metric_type": METRIC,
        "index_params": index.build,
        "search_params": index.search,
    }
    return {
        "project": name,
        "provider": "local",
        "registry": REGISTRY,
        "online_store": online,
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }
