import json
import logging

import pytest

from ragtune.knowledge.garbage import Search
from ragtune.knowledge.manifest import MANIFEST, METRIC, Manifest, serve, write_manifest
from ragtune.registry.pins import pin_knowledge_base


@pytest.fixture
def workspace(tmp_path):
    """A knowledge base that serves kb_v2; a model, stored elsewhere, answers from kb_v1."""
    root = tmp_path / "workspace" / "knowledge_bases" / "passages"
    for version, content in (("kb_v1", "a" * 64), ("kb_v2", "b" * 64)):
        manifest = Manifest(version, "passages", "e", "f" * 64, 2, "float32", METRIC, "FLAT", 1, content, "2026")
        write_manifest(manifest, root / version / MANIFEST)
    serve(root, "kb_v2")
    said = {"path": str(root), "version": "kb_v1", "content_hash": "a" * 64, "encoder_fingerprint": "f" * 64}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "ragtune.json").write_text(json.dumps({"lineage": {"knowledge_base": said}}))
    return tmp_path / "workspace"


def garbage(workspace):
    return [item.place.rpartition("/")[2] for item in Search(workspace, keep_days=0).run().garbage]


@pytest.mark.usefixtures("own_temporary_folder")
def test_a_registered_models_version_is_kept_until_its_lease_is_deleted(workspace, tmp_path):
    assert garbage(workspace) == ["kb_v1"]
    lease = pin_knowledge_base(tmp_path / "model", workspace, 'model "x" version 3 in http://mlflow')
    assert pin_knowledge_base(tmp_path / "model", workspace, 'model "x" version 3 in http://mlflow') == lease
    assert garbage(workspace) == []
    (why,) = [why for version, why in Search(workspace, keep_days=0).run().kept.items() if version.name == "kb_v1"]
    assert why == f'model "x" version 3 in http://mlflow, until {lease} is deleted'
    lease.unlink()
    assert garbage(workspace) == ["kb_v1"]


@pytest.mark.usefixtures("own_temporary_folder")
def test_a_workspace_that_is_mounted_elsewhere_by_now_is_found(workspace, tmp_path):
    mounted = workspace.rename(tmp_path / "mounted")
    assert pin_knowledge_base(tmp_path / "model", mounted, "x").is_relative_to(mounted)
    assert garbage(mounted) == []


def test_a_version_that_is_gone_is_a_warning(workspace, tmp_path, caplog):
    (workspace / "knowledge_bases" / "passages" / "kb_v1" / MANIFEST).unlink()
    with caplog.at_level(logging.WARNING):
        assert pin_knowledge_base(tmp_path / "model", workspace, "x") is None
    assert "cannot be kept from `ragtune gc`" in caplog.text


def test_a_model_without_a_knowledge_base_needs_no_lease(tmp_path):
    (tmp_path / "ragtune.json").write_text("{}")
    assert pin_knowledge_base(tmp_path, "", "x") is None
