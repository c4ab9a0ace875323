"""How deep a night saw, as a picture that Prefect's pages show."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from schemas.recovery import RecoveredShare, Recovery


def depth_plot(night: Recovery) -> str:
    """Draw the share of a night's synthetic streaks that came back, with 95 % intervals.

    Parameters
    ----------
    night
        Of all its bands.

    Returns
    -------
    str
        A PNG as a ``data:`` URL, which needs no server.
    """
    figure = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    across = (("true signal to noise", night.by_snr), ("true length, px", night.by_length))
    for axes, (name, shares) in zip(figure.subplots(1, 2, sharey=True), across, strict=True):
        _draw(axes, shares)
        axes.set_xlabel(name)
    figure.axes[0].set_ylabel("share recovered")
    figure.suptitle(f"Night {night.night}: {night.recovered} of {night.n} synthetic streaks came back")
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def _draw(axes: Axes, shares: Sequence[RecoveredShare]) -> None:
    drawn = [(place, share.recovered / share.n, *share.interval) for place, share in enumerate(shares) if share.n]
    if drawn:
        places, values, low, high = np.array(drawn).T
        # Not below zero by a rounding: matplotlib refuses that.
        axes.errorbar(places, values, np.maximum(0, [values - low, high - values]), fmt="o", capsize=3)
    axes.set_xticks(range(len(shares)), [_span(share) for share in shares])
    axes.set_xlim(-0.5, len(shares) - 0.5)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y", alpha=0.3)


def _span(share: RecoveredShare) -> str:
    return f"≥ {share.lo:g}" if share.hi is None else f"{share.lo:g}–{share.hi:g}"
