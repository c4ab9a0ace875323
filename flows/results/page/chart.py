"""Charts as inline SVG, styled by the page's style sheet; the same numbers give the same bytes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 14, 48


@dataclass(frozen=True)
class Bars:
    """Heights of bars, one per bin, and their class in the style sheet (``style``)."""

    name: str
    style: str
    heights: tuple[float, ...]


@dataclass(frozen=True)
class Points:
    """Values with intervals, one per bin; null if there is none. Joined by a line if ``joined``."""

    name: str
    style: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...] = ()
    joined: bool = True


@dataclass(frozen=True)
class ChartFrame:
    """Axes of a chart with bins of equal width on the page, whatever their edges.

    Attributes
    ----------
    edges
        Labels of the bin edges: one more than bins.
    top
        Upper end of the vertical axis, which starts at 0.
    ticks
        Positions of its ticks.
    title, across, upward
        Title (for screen readers), and names of the axes.
    """

    edges: tuple[str, ...]
    top: float
    ticks: tuple[float, ...]
    title: str
    across: str
    upward: str

    @property
    def bins(self) -> int:
        """Return the number of bins."""
        return len(self.edges) - 1

    def x(self, place: float) -> float:
        """Return the horizontal pixel of a position, in bins from the left."""
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * place / self.bins

    def y(self, value: float) -> float:
        """Return the vertical pixel of a value, clipped to the chart."""
        share = min(max(value / self.top, 0.0), 1.0)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share


def count_ticks(largest: float) -> tuple[float, ...]:
    """Return round integer steps from 0 to at least ``largest``, and at least 1."""
    return value_ticks(max(largest, 1.0), least_step=1.0)


def value_ticks(largest: float, least_step: float = 0.0) -> tuple[float, ...]:
    """Return up to six round steps from 0 to at least ``largest`` (1 if it is 0): 1, 2 or 5 times a power of ten."""
    largest = largest if largest > 0 else 1.0
    power = 10.0 ** math.floor(math.log10(largest / 5))
    step = max(
        least_step, next(factor * power for factor in (1, 2, 5, 10) if factor * power >= largest / 5 * (1 - 1e-9))
    )
    return tuple(step * place for place in range(math.ceil(largest / step * (1 - 1e-9)) + 1))


def bar_chart(frame: ChartFrame, series: Sequence[Bars]) -> str:
    """Return stacked bars as an SVG element."""
    return _svg(frame, [*_axes(frame), *_bars(frame, series)])


def point_chart(frame: ChartFrame, series: Sequence[Points]) -> str:
    """Return points with intervals at the centres of the bins, as an SVG element; later series are drawn on top."""
    return _svg(frame, [*_axes(frame), *(part for points in series for part in _points(frame, points))])


def stacked_bar(parts: Sequence[tuple[str, str, float]], title: str) -> str:
    """Return one bar divided among (name, style, value) in proportion, as an SVG element."""
    total = sum(value for _, _, value in parts) or 1.0
    start, drawn = 0.0, []
    for name, style, value in parts:
        width = 1000 * value / total
        drawn.append(
            f'<rect class="{style}" x="{start:.2f}" y="0" width="{width:.2f}" height="26">'
            f"<title>{escape(name)}: {100 * value / total:.0f} %</title></rect>"
        )
        start += width
    return (
        f'<svg class="bar" viewBox="0 0 1000 26" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}</svg>"
    )


def _svg(frame: ChartFrame, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(frame.title)}">'
        f"{''.join(parts)}</svg>"
    )


def _axes(frame: ChartFrame) -> Iterator[str]:
    left, right, base = frame.x(0), frame.x(frame.bins), frame.y(0)
    for tick in frame.ticks:
        y = frame.y(tick)
        yield f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:,.10g}</text>'
    for place, edge in enumerate(frame.edges):
        x = frame.x(place)
        yield f'<text class="tick" x="{x:.1f}" y="{base + 17:.1f}" text-anchor="middle">{escape(edge)}</text>'
    middle = (left + right) / 2
    yield f'<text class="axis" x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(frame.across)}</text>'
    yield (
        f'<text class="axis" transform="translate(13 {(_TOP + base) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">{escape(frame.upward)}</text>'
    )
    yield f'<line class="base" x1="{left:.1f}" x2="{right:.1f}" y1="{base:.1f}" y2="{base:.1f}"/>'


def _bars(frame: ChartFrame, series: Sequence[Bars]) -> Iterator[str]:
    below = [0.0] * frame.bins
    for bars in series:
        for place, height in enumerate(bars.heights):
            if height <= 0:
                continue
            bottom, top = frame.y(below[place]), frame.y(below[place] + height)
            below[place] += height
            span = f"{frame.edges[place]} to {frame.edges[place + 1]}"
            yield (
                f'<rect class="{bars.style}" x="{frame.x(place) + 1:.1f}" y="{top:.1f}" '
                f'width="{frame.x(1) - frame.x(0) - 2:.1f}" height="{bottom - top:.1f}">'
                f"<title>{escape(span)}, {escape(bars.name)}: {height:,.6g}</title></rect>"
            )


def _points(frame: ChartFrame, points: Points) -> Iterator[str]:
    middles = [frame.x(place + 0.5) for place in range(frame.bins)]
    known = [(x, frame.y(value)) for x, value in zip(middles, points.values, strict=True) if value is not None]
    if points.joined and known:
        yield f'<polyline class="line {points.style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in known)}"/>'
    for x, interval in zip(middles, points.intervals, strict=False):
        if interval is not None:
            low, high = frame.y(interval[0]), frame.y(interval[1])
            yield f'<line class="interval {points.style}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
    for x, y in known:
        yield f'<circle class="point {points.style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
