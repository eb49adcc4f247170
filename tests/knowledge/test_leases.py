import logging
import os
import subprocess
import sys

import pytest

from ragtune.knowledge import leases
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.leases import live_holders, take
from ragtune.knowledge.pointers import point_at, pointer_to, resolve, write_pointer

FOREVER, AT_ONCE = 1e9, 0.0


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_reader_holds_its_version_until_it_is_closed(folder, version):
    with KnowledgeBase.open(folder):
        (holder,) = live_holders(version, AT_ONCE)
        assert holder.startswith(f"process {os.getpid()} on ")
    assert live_holders(version, FOREVER) == []


def test_a_reader_that_was_killed_holds_nothing(version):
    take(version, "process", process=ended_process())
    assert live_holders(version, FOREVER) == []


def test_a_process_elsewhere_is_believed_for_a_while(version, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(leases, "this_host", lambda: "a pod")
        take(version, "process 7 on a pod", process=7)
    assert live_holders(version, FOREVER) == ["process 7 on a pod"]
    assert live_holders(version, AT_ONCE) == []


def test_a_pointer_holds_its_version_as_long_as_it_names_it(folder, version, tmp_path):
    write_pointer(tmp_path / "artifact", folder)
    assert live_holders(version, AT_ONCE) == [str(tmp_path / "artifact" / "knowledge_base.json")]
    pointer = pointer_to(*resolve(folder))
    point_at(tmp_path / "artifact", type(pointer)(pointer.path, "kb_v2", "d" * 64))
    assert live_holders(version, FOREVER) == []


def test_a_pointer_that_cannot_be_seen_is_believed_for_a_while(folder, version, tmp_path):
    write_pointer(tmp_path / "artifact", folder)
    (tmp_path / "artifact" / "knowledge_base.json").unlink()
    assert len(live_holders(version, FOREVER)) == 1
    assert live_holders(version, AT_ONCE) == []


def test_a_lease_is_renewed_while_it_is_read(folder, version, encoder, monkeypatch):
    with KnowledgeBase.open(folder) as base:
        (path,) = (folder / "leases" / "kb_v1").iterdir()
        os.utime(path, (0, 0))
        base.search(encoder.encode(["an otter"]), 1)
        assert path.stat().st_mtime == 0
        monkeypatch.setattr(leases, "_RENEWED_EVERY_SECONDS", 0.0)
        base.search(encoder.encode(["an otter"]), 1)
        assert path.stat().st_mtime > 0


def test_where_no_lease_can_be_written_there_is_a_warning(version, caplog):
    (version.parent / "leases").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert take(version, "process", process=os.getpid()) is None
    assert "no lease can be taken" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_broken_lease_keeps_its_version(version, text):
    path = take(version, "process", process=ended_process())
    path.write_text(text)
    assert live_holders(version, AT_ONCE) == [f"{path}, which cannot be read"]
