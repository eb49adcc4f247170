"""Knowledge bases for benchmarks, ours and Feast's own, with the same passages and the same vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml
from feast import FeatureStore, FeatureView, Field
from feast.types import String

from ragtune.knowledge.feature_repo import PASSAGE, passages_view
from ragtune.knowledge.passages import Passage, Passages

VERSIONS = ("feast", "pymilvus", "milvus-lite", "faiss-cpu", "numpy", "pyarrow", "pandas")
_WORDS = ("river", "king", "treaty", "album", "season", "theorem", "castle", "engine", "novel", "island", "protein")


class KnownVectors:
    """An encoder that was asked before, and costs nothing: row i of `vectors` is the vector of the passage `p<i>`."""

    name = "known vectors"
    precision = "float32"

    def __init__(self, vectors: npt.NDArray[np.float32]):
        self.vectors = vectors
        self.dimension = vectors.shape[1]
        self.fingerprint = f"{vectors.shape[0]:032x}{vectors.shape[1]:032x}"

    def encode_passages(self, passages: Sequence[Passage], **options: Any) -> npt.NDArray[np.float32]:
        return self.vectors[[int(passage.id[1:]) for passage in passages]]


def made_up_vectors(rows: int, dimension: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Unit vectors that lie as an encoder's do: near a subspace of 32 dimensions, not all over the sphere."""
    rng = np.random.default_rng(seed)
    subspace = np.random.default_rng(1).normal(size=(32, dimension))
    vectors = rng.normal(size=(rows, 32)) @ subspace / np.sqrt(32) + 0.3 * rng.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made_up_passages(path: Path, rows: int) -> Passages:
    """Passages of 100 words, no two alike."""
    rng = np.random.default_rng(0)
    texts = [
        f"{row} " + " ".join(_WORDS[word] for word in line) for row, line in enumerate(rng.integers(0, 11, (rows, 99)))
    ]
    table = {"id": [f"p{row}" for row in range(rows)], "title": [f"Title {row}" for row in range(rows)], "text": texts}
    Passages(pa.table(table)).save(path)
    return Passages.open(path)


def stock_store(
    folder: Path, database: Path, project: str, dimension: int, index: dict[str, Any]
) -> tuple[FeatureStore, FeatureView]:
    """Feast's own Milvus online store, as its documentation sets it up, on a database; with the view kb_v1.

    Args:
        folder: for feature_store.yaml and the registry.
        database: Milvus Lite's; where the collection is there already, the store uses it.
        project: Feast's.
        dimension: of the vectors.
        index: index_type, index_params and search_params.
    """
    folder.mkdir(parents=True, exist_ok=True)
    online = {"type": "milvus", "path": str(database.absolute()), "metric_type": "IP", "embedding_dim": dimension}
    config = {
        "project": project,
        "provider": "local",
        "registry": "registry.db",
        "online_store": {**online, **index},
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    store = FeatureStore(repo_path=str(folder))
    ours = passages_view("kb_v1", dimension)
    view = FeatureView(
        name=ours.name,
        entities=[PASSAGE],
        ttl=ours.ttl,
        schema=[Field(name="id", dtype=String), *(field for field in ours.features if field.name != "content_hash")],
        source=ours.batch_source,
    )
    store.apply([PASSAGE, view])
    return store, view


def index_of(folder: Path) -> dict[str, Any]:
    """The index that a knowledge base's feature_store.yaml names, so that Feast's own store gets the same."""
    online = yaml.safe_load((folder / "feature_store.yaml").read_text())["online_store"]
    return {key: online[key] for key in ("index_type", "index_params", "search_params")}
