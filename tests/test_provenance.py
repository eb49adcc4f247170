import subprocess
from pathlib import Path

import pytest

from ragtune import __version__
from ragtune.provenance import running_code

ROOT = Path(__file__).parents[1]


def test_an_image_says_what_it_is(monkeypatch):
    monkeypatch.setenv("RAGTUNE_IMAGE", "registry/ragtune-train@sha256:12")
    monkeypatch.setenv("RAGTUNE_GIT_REVISION", "abc123")
    assert running_code() == {
        "ragtune_version": __version__,
        "image": "registry/ragtune-train@sha256:12",
        "git_revision": "abc123",
    }


def test_a_checkout_says_its_commit(monkeypatch):
    monkeypatch.delenv("RAGTUNE_GIT_REVISION", raising=False)
    monkeypatch.delenv("RAGTUNE_IMAGE", raising=False)
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert running_code()["git_revision"].removesuffix("-dirty") == head.stdout.strip()
    assert "image" not in running_code()


@pytest.mark.parametrize("image", ["data", "train"])
def test_the_images_carry_what_they_were_built_from(image):
    lines = (ROOT / "images" / image / "Dockerfile").read_text()
    assert "ARG GIT_REVISION" in lines and "ARG IMAGE" in lines
    assert "ENV RAGTUNE_GIT_REVISION=$GIT_REVISION RAGTUNE_IMAGE=$IMAGE" in lines
