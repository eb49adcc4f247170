"""The line of the log on a mining; what it finds is tested with the runs of `retriever`."""

from collections import Counter

from ragtune.training.methods.hard_negatives import GOLD, KEPT, MARGIN
from ragtune.training.methods.mining import told


def test_the_share_that_was_kept_is_told_and_why_the_others_were_not():
    line = told(40, Counter({KEPT: 30, GOLD: 10, MARGIN: 1_160}), 25)
    assert line == "mining: step 40: 2.5% of 1,200 candidates kept, 25 new pairs (dropped: gold 10, margin 1,160)"


def test_nothing_left_is_a_warning_with_a_way_out():
    line = told(0, Counter({MARGIN: 5}), 0)
    assert line.startswith("warning: step 0: of 5 candidates no hard negative is left (dropped: margin 5)")
    assert line.endswith("lower margin, raise candidates, or set negatives=0")
