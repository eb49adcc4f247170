import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from world import save_encoder

from ragtune.errors import KnowledgeBaseError, TrainingError
from ragtune.knowledge.pointers import write_pointer
from ragtune.knowledge.serving import served
from ragtune.models.rag import RagModel
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.knowledge import _served, check_knowledge, open_knowledge


def files_with(world, knowledge_base_folder):
    return RunFiles(world.pairs, str(knowledge_base_folder), "out", "work", **world.parts)


def args_with(**parameters):
    return RagTrainingArguments(output_dir="run", **{"n_docs": 3, **parameters})


@pytest.fixture(scope="module")
def model(world):
    return RagModel.from_parts(*world.parts.values())


def test_a_pointer_leads_to_the_base_that_is_searched(world, knowledge_base_folder, model, tmp_path):
    write_pointer(tmp_path, knowledge_base_folder)
    files, args = files_with(world, tmp_path), args_with()
    folder, manifest = check_knowledge(files, args, model)
    assert (str(folder), manifest.rows) == (f"{knowledge_base_folder}/kb_v1", 60)
    with open_knowledge(folder, manifest, files, args) as knowledge:
        found = knowledge.search.search(model.question_encoder.encode(["what is the capital of badoland ?"]), 3)
        assert found.embeddings.shape == (1, 3, 32)
        assert len(knowledge.passages) == 60


def test_exact_search_needs_no_milvus_and_finds_what_the_index_finds(world, knowledge_base_folder, model, tmp_path):
    copy = shutil.copytree(knowledge_base_folder, tmp_path / "copy")
    shutil.rmtree(copy / "kb_v1" / "milvus.db")
    queries = model.question_encoder.encode(["what is the capital of badoland ?"])
    found = []
    for place, retrieval in ((copy, "exact"), (knowledge_base_folder, "direct")):
        files, args = files_with(world, place), args_with(retrieval=retrieval)
        with open_knowledge(*check_knowledge(files, args, model), files, args) as knowledge:
            found.append(knowledge.search.search(queries, 3))
    exact, indexed = found
    assert np.array_equal(exact.rows, indexed.rows)
    assert np.array_equal(exact.scores, indexed.scores)
    assert np.array_equal(exact.embeddings, indexed.embeddings)


def test_a_base_that_another_run_has_open_is_searched_exactly(world, knowledge_base_folder, model, tmp_path, capsys):
    copy = shutil.copytree(knowledge_base_folder, tmp_path / "copy")
    files, args = files_with(world, copy), args_with(retrieval="direct")
    with served(copy / "kb_v1" / "milvus.db"), _served(copy / "kb_v1" / "milvus.db") as uri:
        assert uri == ""
        with open_knowledge(*check_knowledge(files, args, model), files, args) as knowledge:
            assert knowledge.search.search(model.question_encoder.encode(["what is it ?"]), 3).mask.all()
    assert "is open in another process; searching exactly" in capsys.readouterr().err


def test_a_base_of_another_encoder_is_refused(world, knowledge_base_folder, tmp_path):
    save_encoder(tmp_path / "other", ["what", "else"], seed=1)
    other = RagModel.from_parts(tmp_path / "other", tmp_path / "other", world.generator)
    with pytest.raises(TrainingError, match=r"was made with the encoder .* not with the model's passage encoder"):
        check_knowledge(files_with(world, knowledge_base_folder), args_with(), other)


def test_more_passages_a_question_than_there_are_is_refused(world, knowledge_base_folder, model):
    with pytest.raises(TrainingError, match=r"n_docs=61: .* has 60 passages only; lower n_docs"):
        check_knowledge(files_with(world, knowledge_base_folder), args_with(n_docs=61), model)


def test_no_base_is_refused(world, model, tmp_path):
    with pytest.raises(KnowledgeBaseError, match="no knowledge base there"):
        check_knowledge(files_with(world, tmp_path), args_with(), model)


def test_an_embedded_base_serves_several_processes_of_one_machine_alone(
    world, knowledge_base_folder, model, monkeypatch
):
    files, args = files_with(world, knowledge_base_folder), SimpleNamespace(world_size=2, retrieval="direct", n_docs=3)
    check_knowledge(files, args, model)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(TrainingError, match=r"serves one machine, .* set retrieval=gather, or ingest into a Milvus"):
        check_knowledge(files, args, model)


def test_an_embedded_base_has_one_actor(world, knowledge_base_folder, model):
    args = args_with(n_docs=3, retrieval="ray", retrieval_actors=2)
    with pytest.raises(TrainingError, match=r"retrieval_actors=2: .* is an embedded Milvus, which one actor can open"):
        check_knowledge(files_with(world, knowledge_base_folder), args, model)
