import json

import pytest

from ragtune.errors import RegistryError
from ragtune.registry.lineage import collect_lineage, flat


def test_nested_facts_become_dotted_names_with_text_values():
    assert flat({"a": {"b": 1, "c": "x"}, "d": [2], "e": True}) == {"a.b": "1", "a.c": "x", "d": "[2]", "e": "true"}


def test_a_model_says_where_it_comes_from(make_run, monkeypatch):
    """Not where it is registered."""
    monkeypatch.setenv("RAGTUNE_IMAGE", "registry/ragtune-data@sha256:34")
    monkeypatch.setenv("RAGTUNE_GIT_REVISION", "def456")
    lineage = collect_lineage(make_run(100)[0], {"questions_fingerprint": "77"})
    assert lineage["knowledge_base.version"] == "kb_v1"
    assert lineage["parameters.learning_rate"] == "3e-05"
    assert lineage["config.n_docs"] == "5"
    assert lineage["questions_fingerprint"] == "77"
    assert (lineage["image"], lineage["git_revision"]) == ("registry/ragtune-train@sha256:12", "abc123")
    assert len(lineage["model_hash"]) == 64


def test_other_weights_give_another_hash(make_run):
    assert collect_lineage(make_run(1, "a")[0])["model_hash"] != collect_lineage(make_run(1, "b")[0])["model_hash"]


def test_what_is_given_wins(make_run):
    assert collect_lineage(make_run(1)[0], {"image": "mine"})["image"] == "mine"


@pytest.mark.parametrize("content", [None, "{"])
def test_a_folder_that_is_no_model_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "ragtune.json").write_text(content)
    with pytest.raises(RegistryError, match="is this a model folder"):
        collect_lineage(tmp_path)


def test_lineage_is_plain_text(make_run):
    lineage = collect_lineage(make_run(1)[0])
    assert json.loads(json.dumps(lineage)) == lineage
