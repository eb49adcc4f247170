from types import SimpleNamespace

import numpy as np
import pytest

from ragtune.knowledge.milvus_values import WholeText, stored_vectors

grpc = pytest.importorskip("pymilvus.grpc_gen.schema_pb2")


def test_a_text_is_one_item_to_whoever_loops_over_it():
    text = WholeText("a long text")
    assert list(text) == ["a long text"]
    assert text == "a long text" and len(text) == 11


def field(name, numbers):
    return grpc.FieldData(field_name=name, vectors=grpc.VectorField(float_vector=grpc.FloatArray(data=numbers)))


def test_the_vectors_of_all_hits_come_in_their_order():
    numbers = np.arange(600, dtype=np.float32)
    hits = SimpleNamespace(lazy_field_data=[field("other", [9.0] * 6), field("embedding", numbers)])
    vectors = stored_vectors([SimpleNamespace(lazy_field_data=[]), hits], "embedding", 3)
    assert vectors.dtype == np.float32 and (vectors == numbers.reshape(200, 3)).all()


def test_no_hit_has_no_vector():
    assert stored_vectors([], "embedding", 3).shape == (0, 3)
    nothing = SimpleNamespace(lazy_field_data=[field("embedding", [])])
    assert stored_vectors([nothing], "embedding", 3).shape == (0, 3)
