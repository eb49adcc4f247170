"""The worlds that training is tested in."""

import pytest
import torch
from world import ingest, make_world

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """With dropout in the encoder, as in earnest."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def still_world(tmp_path_factory):
    """Without dropout, so that two ways of training can be compared."""
    return make_world(tmp_path_factory.mktemp("still_world"), dropout=0.0)


@pytest.fixture(scope="session")
def knowledge_base_folder(world, tmp_path_factory):
    """An embedded Milvus with the 60 passages."""
    return ingest(world, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def still_knowledge_base(still_world, tmp_path_factory):
    """As `knowledge_base_folder`, for `still_world`."""
    return ingest(still_world, tmp_path_factory.mktemp("still_base"))
