"""Scatter plots, and values over nights, as inline SVG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from flows.results.page.axes import Axis
from flows.results.page.chart import HEIGHT, WIDTH

_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 14, 48


@dataclass(frozen=True)
class Dots:
    """Points of one kind, and their class in the style sheet (``style``)."""

    style: str
    x: NDArray[np.floating]
    y: NDArray[np.floating]


def scatter_chart(across: Axis, upward: Axis, series: Sequence[Dots], title: str) -> str:
    """Return points as an SVG element; later series are drawn on top."""
    parts = [*_axes(across, upward), *(_dots(across, upward, dots) for dots in series if len(dots.x))]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _x(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * share


def _y(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share


def _axes(across: Axis, upward: Axis) -> Iterator[str]:
    left, right, base = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for tick in upward.ticks:
        y = float(_y(upward.share(tick)))
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.10g}</text>'
    for tick in across.ticks:
        x = float(_x(across.share(tick)))
        yield f'<text class="tick" x="{x:.1f}" y="{base + 17}" text-anchor="middle">{tick:.10g}</text>'
    middle = (left + right) / 2
    yield f'<text class="axis" x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across.name)}</text>'
    yield (
        f'<text class="axis" transform="translate(13 {(_TOP + base) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">{escape(upward.name)}</text>'
    )
    yield f'<line class="base" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>'


def _dots(across: Axis, upward: Axis, dots: Dots) -> str:
    """Return one path for all points: each is a line of zero length with round ends."""
    places = zip(_x(across.share(dots.x)), _y(upward.share(dots.y)), strict=True)
    return f'<path class="dots {dots.style}" d="{"".join(f"M{x:.0f} {y:.0f}h0" for x, y in places)}"/>'


_MOST_LABELS = 6
_EQUAL = 1e-9  # relative difference below which values are equal except for rounding


@dataclass(frozen=True)
class TrendNight:
    """Value in a night, the median of earlier nights with its scatter, and the verdict; null: not known."""

    label: str
    value: float | None
    median: float | None
    sigma: float | None
    verdict: str


@dataclass(frozen=True)
class Scale:
    """Scale of values in the chart, from ``low`` at the bottom to ``high`` at the top."""

    nights: int
    low: float
    high: float

    def x(self, place: int) -> float:
        """Return the horizontal pixel of a night."""
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (place + 0.5) / self.nights

    def y(self, value: float) -> float:
        """Return the vertical pixel of a value, clipped to the chart."""
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share


def trend_chart(nights: Sequence[TrendNight], title: str, upward: str) -> str:
    """Draw nights, the earliest first, at least one with a value; the last is emphasised."""
    ticks = _ticks(nights)
    scale = Scale(len(nights), ticks[0], ticks[-1])
    parts = [*_trend_axes(nights, scale, ticks, upward), *_band(nights, scale), *_points(nights, scale)]
    frame = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return f"{frame}{''.join(parts)}</svg>"


def _ticks(nights: Sequence[TrendNight]) -> list[float]:
    """Return round steps, 1, 2 or 5 times a power of ten, that span all values and medians with their scatter."""
    values = [one.value for one in nights if one.value is not None]
    for one in nights:
        if one.median is not None:
            values += [one.median - (one.sigma or 0), one.median + (one.sigma or 0)]
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    span = high - low if high - low > _EQUAL * size else size or 1.0
    low, high = low - 0.05 * span, high + 0.05 * span
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= (high - low) / 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [place * step for place in range(first, last + 1)]


def _trend_axes(nights: Sequence[TrendNight], scale: Scale, ticks: Sequence[float], upward: str) -> Iterator[str]:
    left, right, base = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for tick in ticks:
        y = scale.y(tick)
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{_round(tick)}</text>'
    every = math.ceil(len(nights) / _MOST_LABELS)
    for place in range(len(nights) - 1, -1, -every):
        label = nights[place].label
        yield (
            f'<text class="tick" x="{scale.x(place):.1f}" y="{base + 17}" text-anchor="middle">'
            f"{escape(f'{label[4:6]}-{label[6:]}')}</text>"
        )
    yield f'<text class="axis" x="{(left + right) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">night</text>'
    yield (
        f'<text class="axis" transform="translate(13 {(_TOP + base) / 2:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(upward)}</text>"
    )
    yield f'<line class="base" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>'


def _band(nights: Sequence[TrendNight], scale: Scale) -> Iterator[str]:
    known = [
        (scale.x(place), one.median, one.sigma or 0.0) for place, one in enumerate(nights) if one.median is not None
    ]
    if not known:
        return
    upper = [f"{x:.1f},{scale.y(median + sigma):.1f}" for x, median, sigma in known]
    lower = [f"{x:.1f},{scale.y(median - sigma):.1f}" for x, median, sigma in reversed(known)]
    yield f'<polygon class="usual" points="{" ".join([*upper, *lower])}"/>'
    line = " ".join(f"{x:.1f},{scale.y(median):.1f}" for x, median, _ in known)
    yield f'<polyline class="line usual" points="{line}"/>'


def _points(nights: Sequence[TrendNight], scale: Scale) -> Iterator[str]:
    for place, one in enumerate(nights):
        if one.value is not None:
            size, x, y = 6 if place == len(nights) - 1 else 4, scale.x(place), scale.y(one.value)
            yield (
                f'<circle class="verdict-{one.verdict}" cx="{x:.1f}" cy="{y:.1f}" r="{size}">'
                f"<title>{escape(one.label)}: {one.value:.4g}, {one.verdict.replace('_', ' ')}</title></circle>"
            )


def _round(value: float) -> str:
    return f"{value:,.10g}".replace("-", "−")
