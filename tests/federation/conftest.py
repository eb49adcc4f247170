"""Sites on the tiny world."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "training"))
from world import ingest, make_world

from ragtune.federation import site as site_module
from ragtune.federation.site import Site
from ragtune.federation.sites import divide
from ragtune.models.checkpoint import save_model
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.arguments import RunFiles
from ragtune.training.pairs import open_pairs

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def knowledge_base(world, tmp_path_factory):
    return ingest(world, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def base_model(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "base"
    save_model(RagModel.from_parts(*world.parts.values(), RagConfig(n_docs=3, temperature=0.05)), folder)
    return folder


@pytest.fixture
def sites(world, knowledge_base, base_model, tmp_path):
    """Two sites, each with half of the world's questions."""
    files = RunFiles(world.pairs, knowledge_base, str(tmp_path / "model"), str(tmp_path / "work"), **world.parts)
    divided = divide(open_pairs(world.pairs), files, tmp_path / "federation", 2, seed=0)
    return [Site(**{**vars(site), "model": str(base_model)}) for site in divided]


@pytest.fixture
def in_this_process(monkeypatch):
    """Torch is imported here already."""

    def call(function, *arguments, imports=()):
        return json.loads(json.dumps(function(*json.loads(json.dumps(arguments)))))

    monkeypatch.setattr(site_module, "in_own_process", call)
