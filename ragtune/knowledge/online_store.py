"""Feast's Milvus online store with what Feast lacks: batched search that gives back the documents' own vectors."""

import copy
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import field_validator
from pymilvus import MilvusClient

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.feast_names import (
    EntityKey,
    FeatureView,
    MilvusOnlineStore,
    MilvusOnlineStoreConfig,
    RepoConfig,
    Value,
    compute_table_id,
    serialize_entity_key,
    to_naive_utc,
)
from ragtune.knowledge.manifest import METRIC
from ragtune.knowledge.milvus import (
    CALL_SECONDS,
    close_embedded,
    connect_embedded,
    connect_server,
    index_rows,
    translated_errors,
    wait_for_index,
)
from ragtune.knowledge.milvus_values import WholeText, stored_vectors

_ID, _EMBEDDING, _CONTENT_HASH = "id", "embedding", "content_hash"
_ROW_KEY = "id_pk"  # Feast's name for the serialised entity key
_MOST_ROWS = 16_384  # that a Milvus server gives at once


class BatchedMilvusOnlineStoreConfig(MilvusOnlineStoreConfig):
    """As Feast's; a vector's dimension comes from its Field."""

    type: Literal["ragtune.knowledge.online_store.BatchedMilvusOnlineStore"] = (
        "ragtune.knowledge.online_store.BatchedMilvusOnlineStore"  # type: ignore[assignment]
    )

    @field_validator("token")
    @classmethod
    def _unset_variable_is_no_token(cls, token: str | None) -> str | None:
        return None if token and token.startswith("${") else token


class BatchedMilvusOnlineStore(MilvusOnlineStore):
    """Feast's Milvus online store, its client, collections and search parameters, and `search_batch`.

    Feast's own `retrieve_online_documents_v2` takes one query per call, gives the query's vector back as every
    document's embedding, and ids that do not belong to the texts beside them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._embedded_path: Path | None = None
        self._place = ""

    def connect(self, config: RepoConfig) -> None:
        """Connect now rather than at the first call.

        Raises:
            KnowledgeBaseError: Milvus cannot be reached, refuses the token, or is open in another process.
        """
        self._connect(config)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """As Feast's for views whose fields are strings and vectors, without its checks of every type per value.

        Raises:
            KnowledgeBaseError: Milvus does not answer, or its disk is full.
        """
        vectors = {field.name for field in table.features if field.vector_index}
        version = config.entity_key_serialization_version
        newest: dict[str, dict[str, Any]] = {}
        for key, values, timestamp, created in data:
            row: dict[str, Any] = {
                _ROW_KEY: serialize_entity_key(key, version).hex(),
                "event_ts": _microseconds(timestamp),
                "created_ts": _microseconds(created) if created else 0,
            }
            row.update(zip(key.join_keys, (WholeText(value.string_val) for value in key.entity_values), strict=True))
            for name, value in values.items():
                row[name] = value.float_list_val.val if name in vectors else WholeText(value.string_val)
            if row[_ROW_KEY] not in newest or newest[row[_ROW_KEY]]["event_ts"] < row["event_ts"]:
                newest[row[_ROW_KEY]] = row
        with translated_errors(self._place):
            client = self._collected(config, table)
            client.upsert(_collection(config, table), data=list(newest.values()), timeout=CALL_SECONDS)
        if progress:
            progress(len(data))

    def search_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        queries: npt.NDArray[np.float32],
        k: int,
        *,
        with_embeddings: bool = True,
        consistency_level: str = "",
    ) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The best k documents for each of B queries, in one call to Milvus.

        Args:
            config: the repository's.
            table: the feature view to search.
            queries: (B, d).
            k: documents per query.
            with_embeddings: also fetch the documents' vectors, which is most of what goes over the wire.
            consistency_level: Milvus' own word, such as "Strong"; "" is the collection's.

        Returns:
            ids (B, k) of str, scores (B, k) float32, best first, and embeddings (B, k, d) float32: the documents'
            vectors as they are stored, (B, k, 0) if not asked for. Where there are fewer than k documents: "", -inf and
            0.

        Raises:
            KnowledgeBaseError: the queries have another dimension, k is not possible, or Milvus does not answer.
        """
        dimension = _vector_length(table)
        if queries.ndim != 2 or queries.shape[1] != dimension:
            raise KnowledgeBaseError(
                f"{table.name}: holds vectors of {dimension} dimensions, the queries have shape {queries.shape}; was "
                "another encoder used?"
            )
        if not 1 <= k <= _MOST_ROWS:
            raise KnowledgeBaseError(f"k = {k}: must be from 1 to {_MOST_ROWS}, Milvus' limit")
        ids = np.full((len(queries), k), "", dtype=object)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        embeddings = np.zeros((len(queries), k, dimension if with_embeddings else 0), dtype=np.float32)
        if not len(queries):
            return ids, scores, embeddings
        parameters = dict(config.online_store.search_params or {})
        if "ef" in parameters:
            parameters["ef"] = max(parameters["ef"], k)  # a server refuses less
        with translated_errors(self._place):
            found = self._collected(config, table).search(
                collection_name=_collection(config, table),
                data=np.ascontiguousarray(queries, dtype=np.float32),
                anns_field=_EMBEDDING,
                search_params={"metric_type": _metric(table), "params": parameters},
                limit=k,
                output_fields=[_ID, _EMBEDDING] if with_embeddings else [_ID],
                timeout=CALL_SECONDS,
                **({"consistency_level": consistency_level} if consistency_level else {}),
            )
        for row, hits in enumerate(found):
            ids[row, : len(hits)] = [hit["entity"][_ID] for hit in map(hits.get_raw_item, range(len(hits)))]
            scores[row, : len(hits)] = hits.distances
        if with_embeddings:
            embeddings[ids != ""] = stored_vectors(found, _EMBEDDING, dimension)
        return ids, scores, embeddings

    def content_hashes(self, config: RepoConfig, table: FeatureView) -> Iterator[tuple[list[str], list[str]]]:
        """Read what is stored now, page by page: the ids of some rows, and the content_hash of each.

        The page of an embedded database holds all rows: it logs a traceback where it is asked for fewer.
        """
        wanted: dict[str, Any] = {"output_fields": [_ID, _CONTENT_HASH], "timeout": CALL_SECONDS}
        if not self.count(config, table):
            return
        with translated_errors(self._place):
            client, collection = self._collected(config, table), _collection(config, table)
            if self._embedded_path:
                rows = client.query(collection, filter="", **wanted)
                yield [row[_ID] for row in rows], [row[_CONTENT_HASH] for row in rows]
                return
            pages = client.query_iterator(collection, batch_size=_MOST_ROWS, consistency_level="Strong", **wanted)
            while page := pages.next():
                yield [row[_ID] for row in page], [row[_CONTENT_HASH] for row in page]
            pages.close()

    def drop(self, config: RepoConfig, table: FeatureView) -> None:
        """Drop a table's collection, if there is one."""
        with translated_errors(self._place):
            self.teardown(config, [table], [])

    def count(self, config: RepoConfig, table: FeatureView) -> int:
        """Number of stored rows; -1 where there is no collection."""
        client = self._connect(config)
        with translated_errors(self._place):
            if not client.has_collection(_collection(config, table), timeout=CALL_SECONDS):
                return -1
            client = self._collected(config, table)
            rows = client.query(
                _collection(config, table),
                filter="",
                output_fields=["count(*)"],
                timeout=CALL_SECONDS,
                consistency_level="Strong",
            )
        return int(rows[0]["count(*)"])

    def build_index(self, config: RepoConfig, table: FeatureView) -> None:
        """Put everything written so far under the index, and wait for it: until then each search reads all vectors.

        Raises:
            KnowledgeBaseError: Milvus does not answer, or the index does not grow for ten minutes.
        """
        collection = _collection(config, table)
        with translated_errors(self._place):
            client = self._collected(config, table)
            rows = -1 if self._embedded_path else self.count(config, table)
            index_rows(client, collection, rows, self._place)

    def rebuild_index(self, config: RepoConfig, table: FeatureView) -> None:
        """Put another index, the one that the configuration names now, over the rows that are there.

        Raises:
            KnowledgeBaseError: as `build_index`.
        """
        collection, online = _collection(config, table), config.online_store
        build = dict(online.index_params or {})
        with translated_errors(self._place):
            client = self._collected(config, table)
            client.release_collection(collection, timeout=CALL_SECONDS)
            (name,) = client.list_indexes(collection)
            client.drop_index(collection, name, timeout=CALL_SECONDS)
            wanted = client.prepare_index_params()
            wanted.add_index(
                field_name=_EMBEDDING,
                index_type=online.index_type,
                index_name=f"vector_index_{_EMBEDDING}",
                metric_type=_metric(table),
                # Milvus Lite reads them one level down, and takes its defaults where nothing is there.
                params={"params": build} if self._embedded_path else build,
            )
            client.create_index(collection, wanted, timeout=CALL_SECONDS)
            wait_for_index(client, collection, self._place)
            client.load_collection(collection)

    def disconnect(self) -> None:
        """Close the connection; the last one of this process to an embedded database lets other processes in."""
        client, self.client = self.client, None
        self._collections.clear()
        if client is None:
            return
        if self._embedded_path:
            close_embedded(self._embedded_path, client)
        else:
            client.close()

    def _connect(self, config: RepoConfig) -> MilvusClient:
        if not self.client:
            online = config.online_store
            if online.uri:
                self._embedded_path, self._place = None, online.uri
                self.client = connect_server(online.uri, online.token or "")
            else:
                self._embedded_path = Path(self._get_db_path(config))
                self._place = str(self._embedded_path)
                self.client = connect_embedded(self._embedded_path)
        return self.client

    def _get_or_create_collection(self, config: RepoConfig, table: FeatureView) -> dict[str, Any]:
        """As Feast's, with the dimension that the Field says: views of different encoders live in one store."""
        dimension = _vector_length(table)
        if dimension != config.online_store.embedding_dim:
            config = copy.copy(config)
            config._online_store = config.online_store.model_copy(update={"embedding_dim": dimension})
        return super()._get_or_create_collection(config, table)

    def _collected(self, config: RepoConfig, table: FeatureView) -> MilvusClient:
        """The client, with the table's collection made and loaded."""
        self._get_or_create_collection(config, table)
        return self._connect(config)


def _collection(config: RepoConfig, table: FeatureView) -> str:
    return compute_table_id(config.project, table, config.registry.enable_online_feature_view_versioning)


def _microseconds(moment: datetime) -> int:
    return int(to_naive_utc(moment).timestamp() * 1e6)


def _vector_length(table: FeatureView) -> int:
    return next(field.vector_length for field in table.schema if field.vector_index)


def _metric(table: FeatureView) -> str:
    return next(field.vector_search_metric or METRIC for field in table.schema if field.vector_index)
