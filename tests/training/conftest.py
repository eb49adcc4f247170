"""The worlds that training is tested in."""

import pytest
import torch
from datasets import load_from_disk
from exact_search import ExactSearch
from world import PASSAGES, ingest, make_world

from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods.closed_book import ClosedBook
from ragtune.training.trainer import RagTrainer

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


@pytest.fixture
def make_trainer(still_world, tmp_path):
    def make(closed_book=False, folder="run", model=None, callbacks=None, optimizers=(None, None), **parameters):
        args = RagTrainingArguments(output_dir=str(tmp_path / folder), **parameters)
        method = ClosedBook() if closed_book else args.make_method()
        marginalization = method.marginalization or "sequence"
        config = RagConfig(marginalization=marginalization, n_docs=args.n_docs, temperature=args.temperature)
        model = model or RagModel.from_parts(*still_world.parts.values(), config)
        search = None if closed_book else ExactSearch(model.passage_encoder.encode_passages(PASSAGES))
        prompts = PromptBuilder(model.generator.prompt_tokens, PASSAGES, config)
        pairs = load_from_disk(still_world.pairs)
        more = {"search": search, "callbacks": callbacks, "optimizers": optimizers}
        return RagTrainer(model, args, method, prompts, pairs["train"], pairs["validation"], **more)

    return make
