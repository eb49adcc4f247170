import dataclasses
from itertools import chain

import pytest
from datasets import load_from_disk

from ragtune.errors import TrainingError
from ragtune.federation.sites import divide
from ragtune.training.arguments import RunFiles
from ragtune.training.pairs import open_pairs


def asked(site, split):
    return load_from_disk(site.dataset)[split]["question"]


def test_every_question_is_at_one_site_and_the_same_one_again(world, tmp_path):
    pairs, files = open_pairs(world.pairs), RunFiles(world.pairs, world.pairs, "model", "work", **world.parts)
    sites = divide(pairs, files, tmp_path / "one", 3, seed=0)
    again = divide(pairs, files, tmp_path / "two", 3, seed=0)
    other = divide(pairs, files, tmp_path / "three", 3, seed=1)
    for split, whole in (("train", pairs.train), ("validation", pairs.validation)):
        shares = [list(asked(site, split)) for site in sites]
        assert sorted(chain(*shares)) == sorted(whole["question"])
        assert {len(share) for share in shares} == {len(whole) // 3}
        assert shares == [list(asked(site, split)) for site in again]
        assert shares != [list(asked(site, split)) for site in other]
    assert open_pairs(sites[0].dataset).generator_tokenizer == pairs.generator_tokenizer


def test_a_site_without_questions_is_refused(world, tmp_path):
    pairs, files = open_pairs(world.pairs), RunFiles(world.pairs, world.pairs, "model", "work", **world.parts)
    with pytest.raises(TrainingError, match=r"sites=13: .* has 48 questions to train on and 12 to validate on.*lower"):
        divide(pairs, files, tmp_path, 13, seed=0)
    few = dataclasses.replace(pairs, validation=pairs.validation.select([]))
    assert len(divide(few, files, tmp_path, 13, seed=0)) == 13
