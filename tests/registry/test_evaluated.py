import json

import pytest

from ragtune.errors import RegistryError
from ragtune.registry.evaluated import Evaluated, hash_of


def write(folder, em=1.0, champion=None):
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"em_after": em}))
    (folder / "facts.json").write_text(json.dumps({"champion": champion} if champion else {}))
    (folder / "predictions.jsonl").write_text(json.dumps({"em_after": em}) + "\n")
    return Evaluated.read(folder)


def test_the_identity_follows_predictions_and_champion(tmp_path):
    first = write(tmp_path / "first")
    assert first.metrics == {"em_after": 1.0} and first.predictions == [{"em_after": 1.0}] and first.champion == {}
    assert write(tmp_path / "same").identity == first.identity
    assert write(tmp_path / "other", em=0.0).identity != first.identity
    assert write(tmp_path / "beaten", champion={"version": "3"}).identity != first.identity


def test_half_an_evaluation_is_refused(tmp_path):
    write(tmp_path / "half")
    (tmp_path / "half" / "predictions.jsonl").write_text('{"em_after": ')
    with pytest.raises(RegistryError, match="no whole evaluation"):
        Evaluated.read(tmp_path / "half")
    with pytest.raises(RegistryError, match="no whole evaluation"):
        Evaluated.read(tmp_path / "nowhere")


def test_parts_are_hashed_apart():
    assert hash_of("a", "b") != hash_of("ab") and len(hash_of("a")) == 64
