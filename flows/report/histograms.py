"""How detections are spread over signal to noise and length."""

import numpy as np
from numpy.typing import NDArray

from flows.report.chart import Bars, Frame, bar_chart, count_ticks
from flows.report.words import GRADES, count

SNR_EDGES = (4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100)
LENGTH_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Inner edges: the first and the last bin are open."""


def snr_histogram(snr: NDArray[np.floating], reliability: NDArray[np.floating]) -> str:
    """SVG of the number of detections by S/N, shared out by class of reliability."""
    return _histogram(snr, reliability, SNR_EDGES, "signal to noise")


def length_histogram(length: NDArray[np.floating], reliability: NDArray[np.floating]) -> str:
    """SVG of the number of detections by length in px, shared out by class of reliability."""
    return _histogram(length, reliability, LENGTH_EDGES, "trail length, px")


def _histogram(
    value: NDArray[np.floating], reliability: NDArray[np.floating], edges: tuple[int, ...], across: str
) -> str:
    ends = [-np.inf, *edges, np.inf]
    upper = np.inf
    series = []
    for letter, least, words in GRADES:
        chosen = (reliability >= least) & (reliability < upper)
        heights, _ = np.histogram(value[chosen], ends)
        series.append(Bars(f"reliability {words}", f"grade-{letter}", tuple(float(height) for height in heights)))
        upper = least
    ticks = count_ticks(max(np.sum([bars.heights for bars in series], axis=0)))
    title = f"Histogram of {count(len(value), 'detection')} by {across}"
    labels = ("0", *(str(edge) for edge in edges), "∞")
    return bar_chart(Frame(labels, ticks[-1], ticks, title, across, "detections"), series)
