import io

from ragtune import progress as progress_module
from ragtune.progress import PROGRESS_LINE, progress


def test_a_log_gets_lines_that_say_how_far_how_fast_and_how_long_still(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setattr(progress_module, "_LOG_EVERY_SECONDS", 0.0)
    assert list(progress(range(1000), "embedding", unit="passages")) == list(range(1000))
    lines = log.getvalue().splitlines()
    assert len(lines) == 1000
    assert lines[499].startswith("embedding: 500 of 1,000 passages, ")
    assert lines[499].endswith(" s to go")
    assert all(PROGRESS_LINE.search(line) for line in lines)


def test_an_unknown_total_is_left_out(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setattr(progress_module, "_LOG_EVERY_SECONDS", 0.0)
    list(progress(iter("abc"), "reading", unit="rows"))
    assert log.getvalue().splitlines()[-1].startswith("reading: 3 rows, ")
