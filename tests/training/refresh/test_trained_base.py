from pathlib import Path
from types import SimpleNamespace

from ragtune.training.refresh.trained_base import trained_folder


def test_the_trained_base_is_where_it_was_asked_for_or_beside_the_start_under_the_runs_name(monkeypatch, tmp_path):
    start = tmp_path / "base" / "kb_v1"
    assert trained_folder(SimpleNamespace(trained_knowledge_base_folder=""), start, "ab12") == tmp_path / "base-ab12"
    asked = SimpleNamespace(trained_knowledge_base_folder="elsewhere")
    assert trained_folder(asked, start, "ab12") == Path("elsewhere")
    monkeypatch.chdir(tmp_path)
    relative = trained_folder(SimpleNamespace(trained_knowledge_base_folder=""), Path("base/kb_v1"), "ab12")
    assert relative == tmp_path / "base-ab12"
