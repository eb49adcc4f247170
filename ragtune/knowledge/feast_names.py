"""The names of Feast that are used here, imported in half the time.

Feast decorates its classes with typeguard's `typechecked`, which compiles each of them once more: 3 of the 5 seconds of
processor time that `import feast` takes, in every process of a run. So the decorator does nothing while Feast is
imported; whoever imports typeguard afterwards gets the real one.
"""

import contextlib
import warnings
from collections.abc import Iterator

import typeguard


@contextlib.contextmanager
def _without_typeguard() -> Iterator[None]:
    real = vars(typeguard)["typechecked"]
    vars(typeguard)["typechecked"] = lambda decorated: decorated
    try:
        yield
    finally:
        vars(typeguard)["typechecked"] = real


with _without_typeguard(), warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # a field of Feast's configuration hides one of its parent's
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.errors import FeatureViewNotFoundException
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.infra.online_stores.helpers import compute_table_id
    from feast.infra.online_stores.milvus_online_store.milvus import MilvusOnlineStore, MilvusOnlineStoreConfig
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.types import Array, Float32, String
    from feast.utils import to_naive_utc

__all__ = [
    "Array",
    "Entity",
    "EntityKey",
    "FeatureStore",
    "FeatureView",
    "FeatureViewNotFoundException",
    "Field",
    "FileSource",
    "Float32",
    "MilvusOnlineStore",
    "MilvusOnlineStoreConfig",
    "RepoConfig",
    "String",
    "Value",
    "ValueType",
    "compute_table_id",
    "serialize_entity_key",
    "to_naive_utc",
]
