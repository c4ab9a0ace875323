"""Figures of an evaluation for JSON and the terminal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from flows.results.evaluation.evaluate import Evaluation
from kernels.statistics.completeness import (
    LENGTH_EDGES,
    SNR_EDGES,
    Bin,
    Share,
    binned,
    fit_completeness,
    half_point,
    poisson_interval,
    share_above,
)
from kernels.trails.matched_filter import oracle_threshold

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NO_FALSE_ALARM = float(np.log(2))
"""Number of events assumed if none was seen: the median upper limit of the Poisson mean."""
_CURVE_POINTS = 200

QUADRANT_PX = 3080 * 3072
"""Area of a quadrant of ZTF's camera, 9.5 million px."""

SKIES = (0.1, 1.0, 20.0)
"""Asteroids per image: far from the ecliptic, near it, and as simulated."""


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures of an evaluation.

    Returns
    -------
    dict
        images, n_streaks, false_per_image, purity, uncounted; the figures of `found_figures`; rows_per_image and
        purity_by_sky; oracle (or why there is none); accuracy for all matches and for those with S/N >= 10 and length
        >= 8 px; false_by_snr; the curve.
    """
    long = (evaluation.snr >= 10) & (evaluation.length >= 8)
    figures: dict[str, Any] = {
        "images": evaluation.images,
        "n_streaks": len(evaluation.snr),
        "false_per_image": evaluation.false_per_image,
        "false_per_image_interval": _per_image(evaluation, poisson_interval(len(evaluation.false_score))),
        "false_per_9_5_mpx": _per_area(evaluation),
        "purity": evaluation.purity,
        "uncounted": evaluation.uncounted,
        "rows_per_image": {name: count / max(evaluation.images, 1) for name, count in evaluation.rows.items()},
        "purity_by_sky": purity_by_sky(evaluation),
        **found_figures(evaluation, evaluation.found),
        "oracle": oracle_figures(evaluation),
        **accuracy(evaluation, np.ones(len(long), bool)),
        "accuracy_bright_long": accuracy(evaluation, long),
        "false_by_snr": false_by_snr(evaluation),
        "at_one_false_per_image": at_false_rate(evaluation, 1.0),
        "curve": curve(evaluation),
    }
    if figures["oracle"] is None:
        figures["oracle_reason"] = "no pixels, or no length, of the streaks that count are known"
    return figures


def found_figures(evaluation: Evaluation, found: Bools, known: Bools | None = None) -> dict[str, Any]:
    """Return completeness: c7, c10 (S/N >= 7, >= 10), s50, by S/N and by length, with 95 % intervals.

    c7_under_1_px is for trails shorter than 1 px, as of most asteroids.

    Parameters
    ----------
    evaluation
        Evaluation with the streaks.
    found : (n,) bool
        Which of them count as found.
    known : (n,) bool
        Streaks to include; by default all.
    """
    rows = np.ones(len(found), bool) if known is None else known
    snr, length, hit = evaluation.snr[rows], evaluation.length[rows], found[rows]
    fit, point = fit_completeness(snr, hit), half_point(snr[snr > 0], hit[snr > 0])
    c7, c10 = share_above(snr, hit, 7.0), share_above(snr, hit, 10.0)
    short = share_above(snr[length < 1], hit[length < 1], 7.0)
    return {
        "completeness": _share(Share(int(hit.sum()), len(hit))),
        "c7": c7.value,
        "c7_interval": c7.interval,
        "c10": c10.value,
        "c10_interval": c10.interval,
        "c7_under_1_px": short.value,
        "c7_under_1_px_interval": short.interval,
        "s50": fit.s50 if fit else None,
        "s50_interval": None if point.value is None else [point.low, point.high],
        "completeness_by_snr": [_bin(each) for each in binned(snr, hit, SNR_EDGES)],
        "completeness_by_length": [_bin(each) for each in binned(length, hit, LENGTH_EDGES)],
    }


def _per_image(evaluation: Evaluation, events: tuple[float, float]) -> list[float]:
    return [bound / max(evaluation.images, 1) for bound in events]


def _per_area(evaluation: Evaluation) -> float | None:
    """Return the false detections per usable area of a ZTF quadrant; None if the area is not known."""
    area = evaluation.oracle_area_px
    return evaluation.false_per_image * QUADRANT_PX / area if np.isfinite(area) and area > 0 else None


def purity_by_sky(evaluation: Evaluation) -> list[dict[str, float | None]]:
    """Return the fraction of streaks among detections, for the numbers of asteroids per image in `SKIES`.

    Returns
    -------
    list
        asteroids_per_image; among_moving: streaks over streaks and false ones; among_rows: over all detections,
        including variable stars and classified satellites. Asteroids have the brightness and length of those in the
        truth.
    """
    images, counted = max(evaluation.images, 1), len(evaluation.found)
    false = len(evaluation.false_score) / images
    rest = (sum(evaluation.rows.values()) - evaluation.rows["streak"]) / images
    found = float(evaluation.found.mean()) if counted else np.nan

    def share(sky: float, others: float) -> float | None:
        real = sky * found
        return real / (real + others) if real + others > 0 else None

    return [
        {"asteroids_per_image": sky, "among_moving": share(sky, false), "among_rows": share(sky, rest)} for sky in SKIES
    ]


def oracle_figures(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the same for the filter that knows the truth, at the same rate of false detections; None if not known."""
    known = ~np.isnan(evaluation.oracle_snr)
    if not known.any() or not np.isfinite(evaluation.oracle_area_px):
        return None
    rate = max(evaluation.false_per_image, NO_FALSE_ALARM / evaluation.images)
    threshold = oracle_threshold(rate, evaluation.oracle_area_px)
    found = np.nan_to_num(evaluation.oracle_snr, nan=-np.inf) > threshold
    return {
        "n_streaks": int(known.sum()),
        "false_per_image": rate,
        "threshold": threshold,
        **found_figures(evaluation, found, known),
    }


def accuracy(evaluation: Evaluation, rows: Bools) -> dict[str, Any]:
    """Return bias and scatter of position, length and angle of the streaks found among ``rows``.

    The angle of a trail with zero length is left out.
    """
    rows = rows & evaluation.found
    dx, dy = evaluation.dx[rows], evaluation.dy[rows]
    trailed = rows & (evaluation.length > 0)
    return {
        "position_px": _position(dx, dy),
        "length_px": _spread(evaluation.length_error[rows]),
        "angle_deg": _spread(evaluation.angle_error[trailed]),
    }


def _position(dx: Floats, dy: Floats) -> dict[str, Any]:
    if not len(dx):
        return {"n": 0, "bias": None, "bias_x": None, "bias_y": None, "median": None, "scatter": None, "rms": None}
    bias_x, bias_y = float(np.median(dx)), float(np.median(dy))
    distance = np.hypot(dx, dy)
    return {
        "n": len(dx),
        "bias": float(np.hypot(bias_x, bias_y)),
        "bias_x": bias_x,
        "bias_y": bias_y,
        "median": float(np.median(distance)),
        "scatter": _robust(np.concatenate([dx - bias_x, dy - bias_y])),
        "rms": float(np.sqrt(np.mean(np.square(distance)))),
    }


def _spread(errors: Floats) -> dict[str, Any]:
    errors = errors[np.isfinite(errors)]
    if not len(errors):
        return {"n": 0, "bias": None, "median": None, "scatter": None, "rms": None}
    bias = float(np.median(errors))
    return {
        "n": len(errors),
        "bias": bias,
        "median": float(np.median(np.abs(errors))),
        "scatter": _robust(errors - bias),
        "rms": float(np.sqrt(np.mean(np.square(errors)))),
    }


def _robust(deviations: Floats) -> float:
    """Return the standard deviation of the normal distribution with the same median absolute value."""
    return 1.4826 * float(np.median(np.abs(deviations)))


def false_by_snr(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the false detections per image by measured S/N, without those of unknown S/N."""
    edges = (0.0, *SNR_EDGES, np.inf)
    counts, _ = np.histogram(evaluation.false_snr[np.isfinite(evaluation.false_snr)], np.array(edges))
    return [
        {"lo": lo, "hi": None if hi == np.inf else hi, "n": int(n), "per_image": int(n) / max(evaluation.images, 1)}
        for lo, hi, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def curve(evaluation: Evaluation) -> list[dict[str, float | None]]:
    """Return completeness against false detections per image for increasing thresholds on the score.

    Returns
    -------
    list
        threshold, false_per_image, c7, c10; from the lowest reported score upwards, at most 200 points.
    """
    scores = np.unique(np.concatenate([evaluation.score[evaluation.found], evaluation.false_score]))
    if not len(scores):
        return []
    kept = np.unique(np.linspace(0, len(scores) - 1, _CURVE_POINTS).astype(int))
    return [_at_threshold(evaluation, float(scores[i])) for i in kept]


def at_false_rate(evaluation: Evaluation, rate: float) -> dict[str, float | None] | None:
    """Return completeness at the lowest threshold with at most ``rate`` false detections per image.

    Returns
    -------
    dict or None
        As in `curve`. None if fewer were reported, so that the threshold is out of reach.
    """
    if evaluation.false_per_image < rate:
        return None
    scores = np.unique(np.concatenate([evaluation.score[evaluation.found], evaluation.false_score]))
    false = np.sort(evaluation.false_score)
    above = (len(false) - np.searchsorted(false, scores)) / evaluation.images
    allowed = scores[above <= rate]
    return _at_threshold(evaluation, float(allowed[0]) if len(allowed) else np.inf)


def _at_threshold(evaluation: Evaluation, threshold: float) -> dict[str, float | None]:
    hit = evaluation.score >= threshold
    return {
        "threshold": threshold if np.isfinite(threshold) else None,
        "false_per_image": float((evaluation.false_score >= threshold).sum()) / max(evaluation.images, 1),
        "c7": share_above(evaluation.snr, hit, 7.0).value,
        "c10": share_above(evaluation.snr, hit, 10.0).value,
    }


def _share(share: Share) -> dict[str, Any]:
    return {"n": share.n, "found": share.found, "completeness": share.value, "interval": list(share.interval)}


def _bin(each: Bin) -> dict[str, Any]:
    return {"lo": each.lo, "hi": each.hi, **_share(each.share)}


def night_tables(figures: dict[str, Any]) -> list[Table]:
    """Return the tables of `flows.results.evaluation.summary.summarise`."""
    return [_overview(figures), _by(figures, "snr", "S/N"), _by(figures, "length", "length, px"), _accuracy(figures)]


def stamp_tables(figures: dict[str, Any]) -> list[Table]:
    """Return the tables of `flows.results.evaluation.stamps.summarise_stamps`."""
    table = Table(title=f"{figures['stamps']} stamps, {figures['truncated']} of them cut by the edge of the image")
    table.add_column("least reliability", justify="right")
    groups = figures["at_default"]["groups"]
    for name, group in groups.items():
        table.add_column(f"{name.replace('_', ' ')}, {group['n']}", justify="right")
    for row in (figures["at_default"], *figures["thresholds"]):
        default = " (default)" if row is figures["at_default"] else ""
        table.add_row(f"{row['min_reliability']:.3g}{default}", *(share_text(row["groups"][name]) for name in groups))
    if (area := figures["auc_known_asteroids_against_low_rb"]) is not None:
        low, high = area["interval"]
        table.caption = (
            f"area under the ROC curve, known asteroids against low rb: {area['value']:.3f} ({low:.2f}-{high:.2f})"
        )
    return [table]


def injected_table(figures: dict[str, Any]) -> Table:
    """Return the table of `flows.results.evaluation.stamps.summarise_injected`."""
    table = Table(
        title=f"{figures['trails']} trails put into stamps, least reliability {figures['min_reliability']:.3g}"
    )
    table.add_column("trails")
    for name in ("found", "of", "completeness"):
        table.add_column(name, justify="right")
    lengths = "S/N ≥ 7, length, px:"
    for name, words in (("by_snr", "S/N"), ("by_length", lengths), ("whole", f"whole, {lengths}")):
        for row in figures[name]:
            label = f"{words} {row['lo']:g} to {row['hi']:g}"
            table.add_row(label, str(row["found"]), str(row["n"]), share_text(row))
    low, high = figures["false_per_9_5_mpx_interval"]
    table.caption = (
        f"false detections beside trails and alerts: {figures['false']}, "
        f"{figures['false_per_9_5_mpx']:.1f} ({low:.1f}-{high:.1f}) per 9.5 Mpx"
    )
    return table


def share_text(share: dict[str, Any]) -> str:
    """Return a fraction with its interval, as text for a table."""
    if share["completeness"] is None:
        return "-"
    low, high = share["interval"]
    return f"{share['completeness']:.3f} ({low:.2f}-{high:.2f})"


def _overview(figures: dict[str, Any]) -> Table:
    table = Table(title=f"{figures['n_streaks']} streaks on {figures['images']} images")
    table.add_column("")
    for name in ("search", "oracle matched filter"):
        table.add_column(name, justify="right")
    oracle = figures["oracle"] or {}
    for name, label in (
        ("false_per_image", "false per image"),
        ("purity", "purity"),
        ("c7", "completeness, S/N >= 7"),
        ("c7_under_1_px", "the same, trails under 1 px"),
        ("c10", "completeness, S/N >= 10"),
        ("s50", "S/N at 50 %"),
    ):
        table.add_row(label, _with_interval(figures, name), _number(oracle.get(name)))
    for sky in figures["purity_by_sky"]:
        label = f"purity at {sky['asteroids_per_image']:g} asteroids an image"
        table.add_row(label, _number(sky["among_moving"]), "")
    table.caption = "rows an image: " + ", ".join(
        f"{name.replace('_', ' ')} {value:.2f}" for name, value in figures["rows_per_image"].items()
    )
    if (at_one := figures["at_one_false_per_image"]) is not None:
        table.add_row("S/N >= 7 at 1 false per image", _number(at_one["c7"]), "")
        table.add_row("S/N >= 10 at 1 false per image", _number(at_one["c10"]), "")
    return table


def _by(figures: dict[str, Any], name: str, label: str) -> Table:
    table = Table()
    for heading in (label, "streaks", "completeness", "oracle matched filter"):
        table.add_column(heading, justify="right")
    key = f"completeness_by_{name}"
    oracle = figures["oracle"][key] if figures["oracle"] else [None] * len(figures[key])
    for ours, theirs in zip(figures[key], oracle, strict=True):
        bounds = f"{ours['lo']:g}-{ours['hi']:g}"
        table.add_row(bounds, str(ours["n"]), share_text(ours), share_text(theirs) if theirs else "-")
    return table


def _accuracy(figures: dict[str, Any]) -> Table:
    table = Table(title="measured less true")
    for heading in ("", "n", "bias", "median size", "robust scatter", "rms"):
        table.add_column(heading, justify="right")
    for source, note in ((figures, ""), (figures["accuracy_bright_long"], ", S/N >= 10, length >= 8 px")):
        for name in ("position_px", "length_px", "angle_deg"):
            row = source[name]
            values = [_number(row[key], 3) for key in ("bias", "median", "scatter", "rms")]
            table.add_row(f"{name.replace('_', ', ')}{note}", str(row["n"]), *values)
    return table


def _with_interval(figures: dict[str, Any], name: str) -> str:
    bounds = figures.get(f"{name}_interval")
    if figures[name] is None or bounds is None:
        return _number(figures[name])
    return f"{figures[name]:.2f} ({bounds[0]:.2f}-{bounds[1]:.2f})"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
