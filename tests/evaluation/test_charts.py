import re
from xml.etree import ElementTree

import pytest

from ragtune.evaluation.bootstrap import Interval
from ragtune.evaluation.charts import (
    Series,
    bar_chart,
    dumbbell,
    interval_chart,
    line_chart,
    percent,
    plain,
    thinned,
)

LINES = [Series("before", "before", [(1, 0.2), (2, 0.4)]), Series("after", "after", [(1, 0.5), (2, 0.9)])]


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("text")]


def test_a_line_chart_is_well_formed_and_holds_every_series():
    root = ElementTree.fromstring(line_chart("Recall", LINES, "k", "recall"))
    assert [group.get("class") for group in root.findall("g")] == ["before", "after"]
    assert len(root.findall(".//polyline")) == 2


def test_a_higher_value_is_drawn_higher():
    points = ElementTree.fromstring(line_chart("Recall", LINES[:1], "k", "recall")).find(".//polyline").get("points")
    (_, low), (_, high) = (map(float, point.split(",")) for point in points.split())
    assert high < low


def test_axes_have_round_ticks_that_enclose_the_data():
    assert {"0", "0.2", "0.4", "0.6", "0.8", "1"} <= set(texts(line_chart("Recall", LINES, "k", "recall")))


@pytest.mark.parametrize("points", [[(100, 0.0)], [(5, 3.0), (5, 3.0)], [(0, -1e-9), (1, 1e9)]])
def test_degenerate_data_still_make_a_chart(points):
    svg = line_chart("Loss", [Series("loss", "after", points)], "step", "loss")
    assert "nan" not in svg and "inf" not in svg


def test_bars_say_their_values():
    svg = bar_chart("Answers", ["EM", "F1"], [Series("after", "after", [(0, 0.724), (1, 0.776)])])
    assert {"72", "78", "EM", "F1"} <= set(texts(svg))
    heights = [float(bar.get("height")) for bar in ElementTree.fromstring(svg).iter("rect")]
    assert heights[0] < heights[1]


def test_bars_of_nothing_are_a_chart_too():
    assert "rect" in bar_chart("Answers", ["EM"], [Series("before", "before", [(0, 0.0)])])


@pytest.mark.parametrize(
    "svg",
    [
        dumbbell("EM <", 0.1, 0.7, 0.08),
        line_chart("EM <", LINES, "k", "recall"),
        bar_chart("EM <", ["a"], [Series("after", "after", [(0, 0.5)])]),
    ],
)
def test_every_chart_describes_itself_to_those_who_cannot_see_it(svg):
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.find("title").text == "EM <"
    assert re.search(r"\d", root.find("desc").text)
    assert root.find("desc").text in root.get("aria-label")


def test_a_long_log_is_thinned_by_averages():
    points = thinned([(float(step), float(step % 2)) for step in range(10_000)])
    assert len(points) == 200
    assert all(y == pytest.approx(0.5) for _, y in points)


def test_numbers_are_short():
    assert (percent(0.7484), plain(1500), plain(0.25)) == ("74.8\N{NO-BREAK SPACE}%", "1,500", "0.25")


def test_intervals_are_drawn_to_scale_around_their_differences():
    svg = interval_chart("EM gained", "points", {"a & b": Interval(0.1, -0.05, 0.25), "c": Interval(0.0, 0.0, 0.0)})
    root = ElementTree.fromstring(svg)
    (zero,) = (float(line.get("x1")) for line in root.findall("line") if line.get("class") == "diagonal")
    first, second = root.findall("g")
    ends = [float(point.split(",")[0]) for point in first.find("polyline").get("points").split()]
    middle = float(first.find("circle").get("cx"))
    assert (middle - zero) / (ends[1] - ends[0]) == pytest.approx(1 / 3, abs=0.01)
    assert ends[0] < zero < middle < ends[1]
    assert float(second.find("circle").get("cx")) == pytest.approx(zero, abs=0.1)
    assert {"a & b", "c", "0", "+10", "points"} <= set(texts(svg))
