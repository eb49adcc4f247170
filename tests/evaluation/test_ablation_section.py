"""The page's words on an ablation, which must say what the comparisons found."""

import numpy as np
import pytest

from ragtune.evaluation.ablation import Ablation, Arm
from ragtune.evaluation.ablation_section import ablation_section, verdict, write_ablation


def arm(em, recall, question_encoder=0.0, generator=0.0):
    moved = {"question_encoder": question_encoder, "passage_encoder": 0.0, "generator": generator}
    scores = {"em": em, "recall@1": recall}
    return Arm({name: (np.arange(40) < right)[None].astype(float) for name, right in scores.items()}, moved)


@pytest.fixture
def make():
    """An ablation of 40 questions: so many that each arm answers."""

    def make(both=30, ralt=14, lsr_recall=32, **others):
        trained = {
            "lsr": arm(7, lsr_recall, question_encoder=0.0221),
            "ralt": arm(ralt, 20, generator=0.0092),
            "rag": arm(both, 31, question_encoder=0.03, generator=0.01),
            **others,
        }
        return Ablation(arm(6, 20), trained, Arm({"em": np.zeros((1, 40))}), np.arange(40))

    return make


def test_both_parts_against_the_better_one(make):
    headline, lead = verdict(make())
    assert headline.startswith("Training both parts is better than training one: rag answers 75.0")
    assert "ralt 35.0" in headline  # and not lsr, which answers less
    assert lead.startswith("The difference is +40.0 (") and "over 40 questions." in lead
    assert "The retriever alone (lsr) helps: +30.0 (" in lead and "points of recall@1" in lead
    assert "The generator alone (ralt) helps: +20.0 (" in lead
    assert verdict(make(both=16))[0].startswith("No clear difference between training both parts and one: rag ")
    assert verdict(make(both=2))[0].startswith("Training both parts is worse than training one: rag ")


def test_a_part_that_did_not_learn_is_said_not_to(make):
    lead = verdict(make(lsr_recall=21, ralt=0))[1]
    assert "The retriever alone (lsr) shows no clear change" in lead
    assert "The generator alone (ralt) harms" in lead


def test_the_best_of_several_is_flattered(make):
    assert "chosen on these questions" not in verdict(make())[1]
    lead = verdict(make(alternate=arm(20, 20, question_encoder=0.1, generator=0.1)))[1]
    assert "It is the best of several arms, chosen on these questions" in lead


def test_without_the_other_kind_there_is_nothing_to_compare(make):
    alone = make()
    del alone.trained["rag"]
    assert verdict(alone)[0] == "No arm trains both parts: apart and together cannot be compared."
    del alone.trained["lsr"], alone.trained["ralt"]
    alone.trained["rag"] = make().trained["rag"]
    headline, lead = verdict(alone)
    assert headline.startswith("No arm trains one part alone") and lead.startswith("Training both parts (rag) helps")


def test_the_section_has_every_arm_its_movement_and_every_difference(make, tmp_path):
    found = make(**{"<b>": arm(0, 20)})
    section = ablation_section(found)
    for shown in ("untrained", "closed-book", "2.21 %", "0.92 %", "rag − ralt", "&lt;b&gt; − untrained"):
        assert shown in section
    assert "<b>" not in section
    assert section.count("<svg") == 2 and "Exact match gained over the untrained model" in section
    assert "<td class=up>better" in section and "<td class=down>worse" in section
    assert "means over runs" not in section
    write_ablation(tmp_path / "ablation.html", found, "a <title>")
    page = (tmp_path / "ablation.html").read_text()
    assert "a &lt;title&gt;" in page and section in page and "Training both parts is better" in page
    assert "$" not in page.partition("<body>")[2]


def test_several_runs_show_their_range(make):
    found = make()
    found.trained["ralt"] = Arm({"em": np.array([[0.0] * 40, [1.0] * 40])}, found.trained["ralt"].moved)
    section = ablation_section(found)
    assert "(0.0 to 100.0)" in section and "means over runs" in section
