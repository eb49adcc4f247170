"""Charts as inline SVG: strings without scripts or references, coloured by the page's style sheet.

What a series is called is also its CSS class (`before`, `after`, `closed-book`), so colour, dash and marker are decided
once, in the page. Every chart carries a title and a description for those who cannot see it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ragtune.evaluation.bootstrap import Interval

_WIDTH, _HEIGHT = 440, 270  # user units; the page scales them to the column
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 12, 40
_ROW = 30  # of an interval
_MARKED_POINTS = 25  # with more than this many, markers would hide the line

Format = Callable[[float], str]


@dataclass(frozen=True)
class Series:
    """A line or a set of bars. `label` is read in the legend, `style` is its CSS class."""

    label: str
    style: str
    points: Sequence[tuple[float, float]]


def percent(fraction: float) -> str:
    """0.748 as "74.8 %", the space not to be broken."""
    return f"{100 * fraction:.1f}\N{NO-BREAK SPACE}%"


def whole_percent(fraction: float) -> str:
    """0.748 as "75 %"."""
    return f"{100 * fraction:.0f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points: -0.0281 as "−2.8"."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def _whole_points(difference: float) -> str:
    return f"{100 * difference:+g}".replace("-", "−") if difference else "0"


def plain(value: float) -> str:
    """A number as short as it can be: 1500 as "1,500", 0.25 as "0.25", infinity as "inf"."""
    return f"{value:,.0f}" if math.isfinite(value) and value == round(value) else f"{value:,.4g}"


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    y_format: Format = plain,
    x_format: Format = plain,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> str:
    """Lines over a common x axis; `diagonal` adds the line y = x, where a calibrated probability would lie.

    Args:
        y_range, x_range: the axes' ends; from the data where not given, y then starting at 0 or below.
    """
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    x_low, x_high = x_range or (min(xs), max(xs))
    y_ticks = _ticks(*(y_range or (min(0.0, *ys), max(ys))))
    y_low, y_high = y_range or (y_ticks[0], y_ticks[-1])
    to_x, to_y = _scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT), _scale(y_low, y_high, _HEIGHT - _BOTTOM, _TOP)

    parts = [_y_axis(y_ticks, to_y, y_format)]
    parts += [
        f'<text class="tick" x="{to_x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
        f"{escape(x_format(tick))}</text>"
        for tick in _ticks(x_low, x_high)
        if x_low <= tick <= x_high
    ]
    if diagonal:
        parts.append(
            f'<line class="diagonal" x1="{to_x(x_low):.1f}" y1="{to_y(x_low):.1f}" '
            f'x2="{to_x(x_high):.1f}" y2="{to_y(x_high):.1f}"/>'
        )
    for line in series:
        path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in line.points)
        parts.append(f'<g class="{line.style}"><polyline points="{path}"/>')
        for x, y in line.points if len(line.points) <= _MARKED_POINTS else ():
            hover = f"{line.label}: {x_label} {x_format(x)}, {y_label} {y_format(y)}"
            parts.append(
                f'<circle cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3.2"><title>{escape(hover)}</title></circle>'
            )
        parts.append("</g>")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    ends = "; ".join(
        f"{line.label} from {y_format(line.points[0][1])} at {x_format(line.points[0][0])} "
        f"to {y_format(line.points[-1][1])} at {x_format(line.points[-1][0])}"
        for line in series
    )
    return _svg(title, f"{y_label} over {x_label}: {ends}.", "".join(parts))


def bar_chart(title: str, groups: Sequence[str], series: Sequence[Series]) -> str:
    """Bars side by side, one group a name in `groups`; point (i, y) of a series is its bar in group i. Fractions."""
    highest = max(y for bars in series for _, y in bars.points)
    ticks = _ticks(0, max(highest, 0.05))
    to_y = _scale(0, ticks[-1], _HEIGHT - _BOTTOM, _TOP + 8)
    slot = (_WIDTH - _LEFT - _RIGHT) / len(groups)
    width = min(34.0, slot * 0.84 / len(series))

    parts = [_y_axis(ticks, to_y, whole_percent)]
    for position, group in enumerate(groups):
        centre = _LEFT + slot * (position + 0.5)
        parts.append(
            f'<text class="tick" x="{centre:.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">'
            f"{escape(group)}</text>"
        )
    for place, bars in enumerate(series):
        parts.append(f'<g class="{bars.style}">')
        for group_index, y in bars.points:
            left = _LEFT + slot * (group_index + 0.5) + (place - len(series) / 2) * width
            hover = f"{bars.label}, {groups[int(group_index)]}: {percent(y)}"
            parts.append(
                f'<rect x="{left + 1.5:.1f}" y="{to_y(y):.1f}" width="{width - 3:.1f}" '
                f'height="{_HEIGHT - _BOTTOM - to_y(y):.1f}" rx="1.5"><title>{escape(hover)}</title></rect>'
                f'<text class="value" x="{left + width / 2:.1f}" y="{to_y(y) - 4:.1f}" text-anchor="middle">'
                f"{100 * y:.0f}</text>"
            )
        parts.append("</g>")
    described = "; ".join(
        f"{groups[int(index)]} {bars.label} {percent(y)}" for bars in series for index, y in bars.points
    )
    return _svg(title, f"{described}.", "".join(parts))


def dumbbell(title: str, before: float, after: float, closed_book: float | None = None) -> str:
    """Two dots on a scale from 0 to 1 with a line between them, and a notch where closed-book stands. Fractions."""
    to_x = _scale(0, 1, 10, 290)
    notch = ""
    described = f"before {percent(before)}, after {percent(after)}"
    if closed_book is not None:
        x = to_x(closed_book)
        notch = f'<line class="closed-book" x1="{x:.1f}" y1="3" x2="{x:.1f}" y2="25"/>'
        described += f", closed-book {percent(closed_book)}"
    marks = (
        f'<line class="grid-line" x1="10" y1="14" x2="290" y2="14"/>{notch}'
        f'<line class="stretch" x1="{to_x(before):.1f}" y1="14" x2="{to_x(after):.1f}" y2="14"/>'
        f'<g class="before"><circle cx="{to_x(before):.1f}" cy="14" r="5.5"/></g>'
        f'<g class="after"><circle cx="{to_x(after):.1f}" cy="14" r="6.5"/></g>'
        '<text class="tick" x="10" y="38">0 %</text><text class="tick" x="290" y="38" text-anchor="end">100 %</text>'
    )
    return _svg(title, f"{described}, on a scale from 0 to 100 %.", marks, 300, 42)


def interval_chart(title: str, x_label: str, intervals: Mapping[str, Interval]) -> str:
    """A row per name: a dot at the difference on its 95 % interval, and a line where there is none. Fractions."""
    rows, left = len(intervals), min(170.0, 16 + 6.6 * max(map(len, intervals)))
    bottom = _TOP + rows * _ROW
    ticks = _ticks(
        min(0.0, *(interval.low for interval in intervals.values())),
        max(0.0, *(interval.high for interval in intervals.values())),
    )
    to_x = _scale(ticks[0], ticks[-1], left, _WIDTH - _RIGHT)
    parts = [
        f'<line class="grid-line" x1="{to_x(tick):.1f}" y1="{_TOP}" x2="{to_x(tick):.1f}" y2="{bottom}"/>'
        f'<text class="tick" x="{to_x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{_whole_points(tick)}</text>'
        for tick in ticks
    ]
    parts.append(f'<line class="diagonal" x1="{to_x(0):.1f}" y1="{_TOP}" x2="{to_x(0):.1f}" y2="{bottom}"/>')
    told = []
    for row, (name, interval) in enumerate(intervals.items()):
        y = _TOP + (row + 0.5) * _ROW
        told.append(f"{name} {points(interval.difference)} ({points(interval.low)} to {points(interval.high)})")
        parts.append(
            f'<text class="tick" x="{left - 10:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<g class="after"><title>{escape(told[-1])}</title>'
            f'<polyline points="{to_x(interval.low):.1f},{y:.1f} {to_x(interval.high):.1f},{y:.1f}"/>'
            f'<circle cx="{to_x(interval.difference):.1f}" cy="{y:.1f}" r="4.5"/></g>'
        )
    middle = (left + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle:.1f}" y="{bottom + 34}" text-anchor="middle">{escape(x_label)}</text>')
    return _svg(title, f"{x_label}: {'; '.join(told)}.", "".join(parts), height=bottom + 40)


def thinned(points: Sequence[tuple[float, float]], most: int = 200) -> list[tuple[float, float]]:
    """At most `most` points: neighbours in the list are averaged, so that a long log stays a light page."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose [low, high], a step of 1, 2, 2.5 or 5 times a power of ten apart."""
    span = high - low or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / about))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if span / (m * magnitude) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _y_axis(ticks: Sequence[float], to_y: Callable[[float], float], y_format: Format) -> str:
    return "".join(
        f'<line class="grid-line" x1="{_LEFT}" y1="{to_y(tick):.1f}" x2="{_WIDTH - _RIGHT}" y2="{to_y(tick):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 7}" y="{to_y(tick) + 4:.1f}" text-anchor="end">{escape(y_format(tick))}</text>'
        for tick in ticks
    )


def _svg(title: str, description: str, marks: str, width: int = _WIDTH, height: int = _HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}. {escape(description)}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{marks}</svg>"
    )
