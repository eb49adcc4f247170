import errno
import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from animals import WordEncoder, animal_texts, exact_rows, write_passages
from elsewhere import elsewhere, ingest_and_die

from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.knowledge import ingestion, online_store, rows
from ragtune.knowledge.exact_base import ExactKnowledgeBase
from ragtune.knowledge.feature_repo import batched_store, open_feature_store, passages_view
from ragtune.knowledge.integrity import files_are_intact
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.manifest import MANIFEST, read_manifest
from ragtune.knowledge.milvus import close_embedded, connect_embedded
from ragtune.knowledge.online_store import BatchedMilvusOnlineStore
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.pointers import write_pointer
from ragtune.knowledge.serving import served


@pytest.fixture
def written(monkeypatch):
    """Sizes of the chunks that are written to Milvus."""
    chunks = []
    write = BatchedMilvusOnlineStore.online_write_batch
    monkeypatch.setattr(
        BatchedMilvusOnlineStore,
        "online_write_batch",
        lambda *args: chunks.append(len(args[3])) or write(*args),
    )
    return chunks


def assert_holds(folder, encoder, texts):
    """The base holds these passages, each once, and finds them."""
    with KnowledgeBase.open(folder, encoder_fingerprint=encoder.fingerprint) as base:
        assert dict(zip(base.passages.ids, base.passages.table["text"].to_pylist(), strict=True)) == texts
        queries = encoder.encode(["the otter of the forest eats moss", "number 7"])
        assert base.search(queries, 10).rows.tolist() == exact_rows(encoder, base.passages, queries, 10).tolist()
        everything = base.search(queries, len(texts) + 1)
        assert all(sorted(rows[:-1]) == list(range(len(texts))) and rows[-1] == -1 for rows in everything.rows)


def versions(folder):
    return sorted(path.name for path in folder.glob("kb_v*"))


def test_rows_are_written_in_chunks(tmp_path, corpus, encoder, written):
    ingest_passages(corpus, tmp_path / "base", encoder, chunk_rows=128)
    assert written == [128, 128, 44]


def test_long_texts_are_written_in_smaller_chunks(tmp_path, corpus, encoder, written, monkeypatch):
    sizes = Passages.open(corpus).text_sizes
    monkeypatch.setattr(rows, "_BYTES_PER_CALL", 1000)
    ingest_passages(corpus, tmp_path / "base", encoder, chunk_rows=128)
    ends = np.cumsum(written)
    assert ends[-1] == len(sizes) and {128, 256} <= set(ends)
    assert all(part.sum() < 1000 + part.max() for part in np.split(sizes, ends[:-1]))
    assert len(written) < 2 * sizes.sum() / 1000


def test_a_flat_index_serves_too(tmp_path, corpus, encoder):
    assert ingest_passages(corpus, tmp_path / "base", encoder, index="FLAT").index == "FLAT"
    assert_holds(tmp_path / "base", encoder, animal_texts(300))


def test_an_unchanged_corpus_is_left_alone(folder, version, corpus, encoder, written):
    before = read_manifest(version / MANIFEST)
    assert ingest_passages(corpus, folder, encoder) == before
    assert (written, encoder.embedded) == ([], 0)


def test_an_unchanged_corpus_is_left_alone_while_the_base_is_open_elsewhere(
    folder, version, corpus, encoder, lite_server
):
    lite_server(version / "milvus.db")
    assert ingest_passages(corpus, folder, encoder).version == "kb_v1"


def test_a_changed_corpus_is_a_new_version_and_only_what_changed_is_embedded(folder, version, tmp_path, encoder):
    texts = animal_texts(310)
    texts["w5"] = "a fox crosses the tundra"
    for gone in ("w7", "w8", "w9"):
        del texts[gone]
    manifest = ingest_passages(write_passages(tmp_path / "new.parquet", texts), folder, encoder)
    assert (manifest.version, manifest.rows) == ("kb_v2", 307)
    assert encoder.embedded == 11
    assert_holds(folder, encoder, texts)
    assert_holds(version, encoder, animal_texts(300))


def test_a_new_order_of_the_passages_is_a_new_version_that_embeds_nothing(folder, tmp_path, encoder):
    texts = dict(reversed(animal_texts(300).items()))
    ingest_passages(write_passages(tmp_path / "new.parquet", texts), folder, encoder)
    assert encoder.embedded == 0
    assert_holds(folder, encoder, texts)


def test_a_corpus_that_returns_is_served_from_its_old_version(folder, tmp_path, corpus, encoder, written):
    ingest_passages(write_passages(tmp_path / "fewer.parquet", animal_texts(200)), folder, encoder)
    written.clear()
    assert ingest_passages(corpus, folder, encoder).version == "kb_v1"
    assert (written, encoder.embedded) == ([], 0)
    assert_holds(folder, encoder, animal_texts(300))


@pytest.mark.parametrize("other", [WordEncoder(seed=1), WordEncoder(dimension=16)], ids=["weights", "dimension"])
def test_another_encoder_makes_a_new_version_beside_the_old(folder, version, corpus, encoder, other):
    assert ingest_passages(corpus, folder, other).version == "kb_v2"
    assert_holds(folder, other, animal_texts(300))
    assert_holds(version, encoder, animal_texts(300))


def test_vectors_of_another_precision_make_a_new_version_and_are_not_mixed_with_the_old(folder, corpus, encoder):
    half = WordEncoder()
    half.precision = "bfloat16"
    half.table = half.table.astype(np.float16).astype(np.float32)
    assert ingest_passages(corpus, folder, half).version == "kb_v2"
    assert half.embedded == 300
    assert_holds(folder, half, animal_texts(300))


def test_another_index_makes_a_new_version_beside_the_old(folder, corpus, encoder):
    assert ingest_passages(corpus, folder, encoder, index="FLAT").version == "kb_v2"
    assert ingest_passages(corpus, folder, encoder).version == "kb_v1"


def test_a_new_version_that_fails_leaves_the_old_one_serving(folder, corpus, encoder, monkeypatch):
    monkeypatch.setattr(rows, "build_index", fail)
    with pytest.raises(KnowledgeBaseError, match="the probe failed"):
        ingest_passages(corpus, folder, WordEncoder(seed=1))
    assert_holds(folder, encoder, animal_texts(300))


def test_a_new_version_that_had_begun_is_resumed(folder, corpus, monkeypatch, written):
    with monkeypatch.context() as patch:
        patch.setattr(rows, "build_index", fail)
        with pytest.raises(KnowledgeBaseError):
            ingest_passages(corpus, folder, WordEncoder(seed=1))
    assert ingest_passages(corpus, folder, WordEncoder(seed=1)).version == "kb_v2"
    assert written == [300]


def test_an_abandoned_version_is_removed_by_the_next(folder, corpus, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(rows, "build_index", fail)
        with pytest.raises(KnowledgeBaseError):
            ingest_passages(corpus, folder, WordEncoder(seed=1))
    assert ingest_passages(corpus, folder, WordEncoder(seed=2)).version == "kb_v3"
    assert versions(folder) == ["kb_v1", "kb_v3"]


def fail(*args):
    raise KnowledgeBaseError("the probe failed")


def test_while_another_corpus_is_ingested_the_old_one_is_served_and_never_not_whole(
    folder, tmp_path, encoder, monkeypatch
):
    path = write_passages(tmp_path / "new.parquet", animal_texts(310))
    with monkeypatch.context() as patch:
        patch.setattr(rows, "build_index", fail)
        with pytest.raises(KnowledgeBaseError):
            ingest_passages(path, folder, encoder)
    assert_holds(folder, encoder, animal_texts(300))
    ingest_passages(path, folder, encoder)
    assert_holds(folder, encoder, animal_texts(310))


def delete_rows(version, ids):
    client = connect_embedded(version / "milvus.db")
    (collection,) = client.list_collections()
    client.load_collection(collection)
    assert len(client.delete(collection, filter=f"id in {json.dumps(ids)}")) == len(ids)
    close_embedded(version / "milvus.db", client)


def empty_milvus(version):
    delete_rows(version, list(animal_texts(300)))


def drop_collection(version):
    store = open_feature_store(version)
    online = batched_store(store)
    online.drop(store.config, passages_view("kb_v1", 32))
    online.disconnect()


def break_database(version):
    for path in (version / "milvus.db").rglob("*"):
        if path.is_file() and path.name != "LOCK":
            path.write_bytes(b"broken")


DAMAGES = {
    "Milvus emptied": empty_milvus,
    "collection dropped": drop_collection,
    "database gone": lambda version: shutil.rmtree(version / "milvus.db"),
    "database broken": break_database,
    "arrow gone": lambda version: (version / "passages.arrow").unlink(),
    "arrow cut off": lambda version: os.truncate(version / "passages.arrow", 1000),
    "vectors gone": lambda version: (version / "vectors.npy").unlink(),
    "vectors cut off": lambda version: os.truncate(version / "vectors.npy", 1000),
    "Parquet gone": lambda version: shutil.rmtree(version / "features.parquet"),
    "Parquet part gone": lambda version: next((version / "features.parquet").iterdir()).unlink(),
    "registry gone": lambda version: (version / "registry.db").unlink(),
    "registry broken": lambda version: (version / "registry.db").write_bytes(b"half written"),
    "configuration gone": lambda version: (version / "feature_store.yaml").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_version_is_repaired_by_the_ingestion_of_its_passages(
    folder, version, tmp_path, corpus, encoder, damage
):
    write_pointer(tmp_path / "artifact", folder)
    manifest = read_manifest(version / MANIFEST)
    DAMAGES[damage](version)
    with pytest.raises(KnowledgeBaseError, match="ingest_passages"), KnowledgeBase.open(folder) as base:
        base.search(encoder.encode(["a fox"]), 1)
    assert replace(ingest_passages(corpus, folder, encoder), created=manifest.created) == manifest
    assert encoder.embedded == 0
    for place in (folder, tmp_path / "artifact"):
        assert_holds(place, encoder, animal_texts(300))
    assert versions(folder) == ["kb_v1"]


def flip(path):
    """Change 200 bytes in the middle, and nothing else."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(255 - byte for byte in content[middle : middle + 200])
    path.write_bytes(content)


FLIPPED = {
    "vectors": lambda version: version / "vectors.npy",
    "texts": lambda version: version / "passages.arrow",
    "Parquet part": lambda version: next((version / "features.parquet").iterdir()),
}


@pytest.mark.parametrize("file", FLIPPED)
def test_bytes_that_change_inside_a_file_are_noticed_and_repaired(folder, version, corpus, encoder, written, file):
    path = FLIPPED[file](version)
    before = path.read_bytes()
    flip(path)
    manifest = ingest_passages(corpus, folder, encoder)
    assert manifest == read_manifest(version / MANIFEST)
    assert (versions(folder), written, encoder.embedded) == (["kb_v1"], [], 0)
    after = FLIPPED[file](version)
    assert after.read_bytes() == before or after.suffix == ".parquet"
    assert files_are_intact(version, manifest)
    assert_holds(folder, encoder, animal_texts(300))


def test_bytes_that_change_are_repaired_beside_a_reader(folder, version, corpus, encoder):
    flip(version / "vectors.npy")
    with served(version / "milvus.db"):
        ingest_passages(corpus, folder, encoder)
    assert_holds(folder, encoder, animal_texts(300))


def test_files_that_are_intact_stay_when_rows_are_repaired(folder, version, tmp_path, corpus, encoder, monkeypatch):
    """The same passages in other record batches are other bytes, which a repair that fails must not leave."""
    table = Passages.open(corpus).table
    Passages(pa.concat_tables([table[:100], table[100:]])).save(tmp_path / "batches.arrow")
    empty_milvus(version)
    with monkeypatch.context() as patch:
        patch.setattr(rows, "build_index", fail)
        with pytest.raises(KnowledgeBaseError, match="the probe failed"):
            ingest_passages(tmp_path / "batches.arrow", folder, encoder)
    with ExactKnowledgeBase.open(folder) as base:
        assert base.search(encoder.encode(["an otter"]), 1).mask.all()


def test_texts_are_repaired_in_other_record_batches_beside_a_reader(folder, version, tmp_path, corpus, encoder):
    table = Passages.open(corpus).table
    Passages(pa.concat_tables([table[:100], table[100:]])).save(tmp_path / "batches.arrow")
    flip(version / "passages.arrow")
    with served(version / "milvus.db"):
        manifest = ingest_passages(tmp_path / "batches.arrow", folder, encoder)
    assert files_are_intact(version, manifest)
    assert_holds(folder, encoder, animal_texts(300))


def test_a_mean_that_is_gone_is_noticed_and_repaired(tmp_path, corpus, encoder):
    version = tmp_path / "base" / "kb_v1"
    ingest_passages(corpus, tmp_path / "base", encoder, index="HNSW")
    (version / "mean.npy").unlink()
    with pytest.raises(KnowledgeBaseError, match=r"mean.npy is missing; run ingest_passages again"):
        KnowledgeBase.open(tmp_path / "base")
    ingest_passages(corpus, tmp_path / "base", encoder, index="HNSW")
    assert_holds(tmp_path / "base", encoder, animal_texts(300))


def test_an_error_of_the_volume_is_no_damage(folder, version, corpus, encoder, monkeypatch):
    """As NFS answers where a file was replaced on its server."""

    def stale(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    before = {path: path.read_bytes() for path in version.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr("ragtune.knowledge.offline_source.pq.read_metadata", stale)
        with pytest.raises(KnowledgeBaseError, match=r"parquet: cannot be read \(Stale file handle\)"):
            ingest_passages(corpus, folder, encoder)
    assert before == {path: path.read_bytes() for path in version.rglob("*") if path.is_file()}
    assert_holds(folder, encoder, animal_texts(300))


def test_a_repair_that_fails_leaves_what_is_served_as_it_was(folder, version, tmp_path, corpus, encoder, monkeypatch):
    write_pointer(tmp_path / "artifact", folder)
    flip(FLIPPED["Parquet part"](version))

    def full(*args):
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ingestion, "write_offline_source", full)
        with pytest.raises(KnowledgeBaseError, match="the disk is full"):
            ingest_passages(corpus, folder, encoder)
    for place in (folder, tmp_path / "artifact"):
        assert_holds(place, encoder, animal_texts(300))


def test_a_damaged_version_with_another_index_is_repaired_too_for_those_who_point_to_it(
    folder, version, tmp_path, corpus, encoder
):
    ingest_passages(corpus, folder, encoder, index="FLAT")
    write_pointer(tmp_path / "artifact", folder)
    shutil.rmtree(folder / "kb_v2" / "milvus.db")
    flip(folder / "kb_v2" / "vectors.npy")
    with pytest.raises(KnowledgeBaseError, match="run ingest_passages again"):
        KnowledgeBase.open(tmp_path / "artifact")
    assert ingest_passages(corpus, folder, encoder).version == "kb_v1"
    assert_holds(tmp_path / "artifact", encoder, animal_texts(300))
    assert read_manifest(folder / "kb_v2" / MANIFEST).index == "FLAT"


def test_a_damaged_version_that_cannot_be_repaired_here_is_told(folder, version, corpus, encoder, caplog):
    half = WordEncoder()
    half.precision = "bfloat16"
    ingest_passages(corpus, folder, half)
    flip(folder / "kb_v2" / "vectors.npy")
    shutil.rmtree(next((folder / "embeddings").glob("*-bfloat16")))
    assert ingest_passages(corpus, folder, encoder).version == "kb_v1"
    assert "kb_v2: may be damaged, and was not repaired" in caplog.text
    assert "ingest those passages where it computes in bfloat16" in caplog.text


def test_only_rows_that_milvus_lost_are_written_again(folder, version, corpus, encoder, written):
    delete_rows(version, ["w3", "w4"])
    with pytest.raises(KnowledgeBaseError, match="has 300 rows, but Milvus holds 298 rows"):
        KnowledgeBase.open(folder)
    ingest_passages(corpus, folder, encoder)
    assert written == [2]
    assert_holds(folder, encoder, animal_texts(300))


def test_rows_of_other_content_under_the_same_ids_are_written_again(folder, version, corpus, encoder, written):
    client = connect_embedded(version / "milvus.db")
    (collection,) = client.list_collections()
    client.load_collection(collection)
    (row,) = client.query(collection, filter='id == "w3"', output_fields=["*"])
    client.upsert(collection, [row | {"content_hash": "0" * 32}])
    close_embedded(version / "milvus.db", client)
    delete_rows(version, ["w4"])  # so that the version is seen to be damaged
    ingest_passages(corpus, folder, encoder)
    assert written == [300]
    assert_holds(folder, encoder, animal_texts(300))


def test_a_repair_that_is_interrupted_is_resumed_and_survives_other_ingestions(
    folder, version, tmp_path, corpus, encoder, monkeypatch
):
    write_pointer(tmp_path / "artifact", folder)
    empty_milvus(version)
    with monkeypatch.context() as patch:
        patch.setattr(rows, "build_index", fail)
        with pytest.raises(KnowledgeBaseError, match="the probe failed"):
            ingest_passages(corpus, folder, encoder)
    with ExactKnowledgeBase.open(tmp_path / "artifact") as base:  # no worse than before
        assert base.search(encoder.encode(["an otter"]), 1).mask.all()
    assert ingest_passages(write_passages(tmp_path / "n.parquet", animal_texts(9)), folder, encoder).version == "kb_v2"
    assert ingest_passages(corpus, folder, encoder).version == "kb_v1"
    assert_holds(tmp_path / "artifact", encoder, animal_texts(300))


def test_a_damaged_version_that_is_open_elsewhere_stays_as_it_is(folder, version, corpus, encoder):
    (version / "registry.db").unlink()
    with served(version / "milvus.db"), pytest.raises(KnowledgeBaseError, match="is open in another process"):
        ingest_passages(corpus, folder, encoder)
    assert read_manifest(version / MANIFEST)


def test_what_an_earlier_ragtune_had_begun_is_removed(folder, corpus):
    (folder / "kb_v2").mkdir()
    (folder / "kb_v2" / "building.json").write_text('{"version": "kb_v2"}')
    assert ingest_passages(corpus, folder, WordEncoder(seed=1)).version == "kb_v3"
    assert versions(folder) == ["kb_v1", "kb_v3"]


def test_a_base_of_an_earlier_layout_gets_a_version_from_its_embeddings(tmp_path, version, corpus, encoder):
    old = tmp_path / "old"
    (old / "kb_v1").mkdir(parents=True)
    shutil.copytree(version.parent / "embeddings", old / "embeddings")
    shutil.copytree(version / "milvus.db", old / "milvus.db")
    (version / "passages.arrow").rename(old / "kb_v1" / "passages-abc.arrow")
    (version / MANIFEST).rename(old / MANIFEST)
    assert ingest_passages(corpus, old, encoder).version == "kb_v2"
    assert encoder.embedded == 0
    assert_holds(old, encoder, animal_texts(300))


def test_another_ingestion_is_waited_for(folder, corpus, encoder, monkeypatch, caplog):
    monkeypatch.setattr("ragtune.knowledge.claims._POLL_SECONDS", 0.05)
    with ThreadPoolExecutor(1) as pool:
        with ingestion.only_one(folder):
            waiting = pool.submit(ingest_passages, corpus, folder, encoder)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
        assert waiting.result(timeout=60).version == "kb_v1"
    assert "is ingesting into it; waiting for at most 21600 s" in caplog.text


def test_an_index_that_finds_too_little_is_not_switched_to(tmp_path, corpus, encoder, monkeypatch):
    search = BatchedMilvusOnlineStore.search_batch

    def forgetful(*args, **options):
        ids, *others = search(*args, **options)
        return np.roll(ids, 1, axis=0), *others

    monkeypatch.setattr(BatchedMilvusOnlineStore, "search_batch", forgetful)
    monkeypatch.setattr("ragtune.knowledge.indexing._COMPARED", 0)
    with pytest.raises(KnowledgeBaseError, match=r"FLAT finds .*% of the passages .*; nothing was switched"):
        ingest_passages(corpus, tmp_path / "base", encoder)
    with pytest.raises(KnowledgeBaseError, match="no knowledge base there"):
        KnowledgeBase.open(tmp_path / "base")


def test_vectors_that_come_back_changed_are_not_switched_to(tmp_path, corpus, encoder, monkeypatch):
    vectors = online_store.stored_vectors
    monkeypatch.setattr(online_store, "stored_vectors", lambda *args: vectors(*args) * np.float32(1.01))
    with pytest.raises(KnowledgeBaseError, match="gives back other vectors than were written"):
        ingest_passages(corpus, tmp_path / "base", encoder)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "no passages; did split_passages drop every row"),
        ({"w1": "word " * 20_000}, r'passage "w1" holds a text of 100,000 bytes, and Milvus takes 65,535 at most'),
    ],
)
def test_passages_that_cannot_be_ingested_are_named(tmp_path, encoder, texts, message):
    path = write_passages(tmp_path / "passages.parquet", texts)
    with pytest.raises(KnowledgeBaseError, match=message):
        ingest_passages(path, tmp_path / "base", encoder)


def test_absent_passages_are_named(tmp_path, encoder):
    with pytest.raises(KnowledgeBaseError, match=r"nowhere.parquet: no such file"):
        ingest_passages(tmp_path / "nowhere.parquet", tmp_path / "base", encoder)


def test_ids_that_stand_twice_are_refused(tmp_path, encoder):
    table = Passages.open(write_passages(tmp_path / "passages.parquet", animal_texts(3))).table
    Passages(table.take([0, 1, 1, 2])).save(tmp_path / "twice.parquet")
    with pytest.raises(KnowledgeBaseError, match="1 ids occur more than once"):
        ingest_passages(tmp_path / "twice.parquet", tmp_path / "base", encoder)


@pytest.mark.parametrize("cached", [False, True], ids=["while embedding", "while writing"])
def test_a_full_disk_is_named_and_space_is_all_that_it_takes_to_go_on(tmp_path, small_disk, cached):
    encoder = WordEncoder(dimension=256)
    texts = animal_texts(1000)
    path = write_passages(tmp_path / "passages.parquet", texts)
    options = {"embedding_cache": tmp_path / "cache"} if cached else {}
    with pytest.raises(KnowledgeBaseError, match="the disk is full"):
        ingest_passages(path, small_disk / "base", encoder, **options)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    ingest_passages(path, small_disk / "base", encoder, **options)
    assert_holds(small_disk / "base", encoder, texts)


@pytest.mark.parametrize(
    ("place", "still_to_write"),
    [
        ("embedding", [100, 100, 100]),
        ("writing", [100]),
        ("indexing", []),
        ("probing", []),
        ("serving", []),
        ("cleaning", []),
    ],
)
def test_a_killed_first_ingestion_is_resumed(tmp_path, corpus, encoder, written, place, still_to_write):
    assert elsewhere(ingest_and_die, place, corpus, tmp_path / "base") == -signal.SIGKILL
    if place != "cleaning":
        with pytest.raises(KnowledgeBaseError, match="no knowledge base there"):
            KnowledgeBase.open(tmp_path / "base")
    ingest_passages(corpus, tmp_path / "base", encoder, chunk_rows=100)
    assert written == still_to_write
    assert encoder.embedded == (150 if place == "embedding" else 0)
    assert_holds(tmp_path / "base", encoder, animal_texts(300))
    assert versions(tmp_path / "base") == ["kb_v1"]


@pytest.mark.parametrize(("place", "still_to_write"), [("writing", [100, 100, 30]), ("indexing", []), ("serving", [])])
def test_a_killed_update_is_resumed_while_the_old_version_is_served(
    folder, tmp_path, encoder, written, place, still_to_write
):
    texts = animal_texts(450)
    for number in range(60):
        texts[f"w{number}"] = f"a fox number {number} crosses the tundra"
    for number in range(200, 220):
        del texts[f"w{number}"]
    path = write_passages(tmp_path / "new.parquet", texts)
    assert elsewhere(ingest_and_die, place, path, folder) == -signal.SIGKILL
    assert_holds(folder, encoder, animal_texts(300))
    encoder.embedded = 0
    ingest_passages(path, folder, encoder, chunk_rows=100)
    assert written == still_to_write
    assert encoder.embedded == 0
    assert_holds(folder, encoder, texts)


def test_progress_is_shown(tmp_path, corpus, encoder, capsys, monkeypatch):
    monkeypatch.setattr("ragtune.progress._LOG_EVERY_SECONDS", 0.0)
    ingest_passages(corpus, tmp_path / "base", encoder)
    shown = capsys.readouterr().err
    assert "embedding: 300 of 300 passages" in shown
    assert "writing: 300 of 300 passages" in shown


def test_a_copied_folder_is_brought_in_line_by_itself(folder, tmp_path, encoder):
    shutil.copytree(folder, tmp_path / "copy")
    ingest_passages(write_passages(tmp_path / "new.parquet", animal_texts(20)), tmp_path / "copy", encoder)
    assert_holds(tmp_path / "copy", encoder, animal_texts(20))
    assert_holds(folder, encoder, animal_texts(300))
