"""An evaluation as figures that JSON can hold: null where a figure is not defined."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.evaluate import Evaluation
from kernels.completeness import LENGTH_EDGES, SNR_EDGES, Bin, Share, binned, fit_completeness, share_above
from kernels.oracle import oracle_threshold

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NO_FALSE_ALARM = float(np.log(2))
"""Events taken for none seen: the 50 % upper limit of a Poisson mean of which none was seen."""
_CURVE_POINTS = 200


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Give the figures of an evaluation.

    Returns
    -------
    dict
        images, n_streaks, false_per_image, purity, uncounted; the figures of `found_figures`; oracle (and why there is
        none); accuracy over all matches and over those of S/N >= 10 and length >= 8 px; false_by_snr; the curve.
    """
    long = (evaluation.snr >= 10) & (evaluation.length >= 8)
    figures: dict[str, Any] = {
        "images": evaluation.images,
        "n_streaks": len(evaluation.snr),
        "false_per_image": evaluation.false_per_image,
        "purity": evaluation.purity,
        "uncounted": evaluation.uncounted,
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
    """Give completeness: c7, c10 (S/N >= 7, >= 10), s50, by S/N and by length, with 95 % intervals.

    Parameters
    ----------
    evaluation
        What holds the streaks.
    found : (n,) bool
        Which of them to call found.
    known : (n,) bool
        Streaks to be left in; all by default.
    """
    rows = np.ones(len(found), bool) if known is None else known
    snr, length, hit = evaluation.snr[rows], evaluation.length[rows], found[rows]
    fit = fit_completeness(snr, hit)
    c7, c10 = share_above(snr, hit, 7.0), share_above(snr, hit, 10.0)
    return {
        "completeness": _share(Share(int(hit.sum()), len(hit))),
        "c7": c7.value,
        "c7_interval": c7.interval,
        "c10": c10.value,
        "c10_interval": c10.interval,
        "s50": fit.s50 if fit else None,
        "completeness_by_snr": [_bin(each) for each in binned(snr, hit, SNR_EDGES)],
        "completeness_by_length": [_bin(each) for each in binned(length, hit, LENGTH_EDGES)],
    }


def oracle_figures(evaluation: Evaluation) -> dict[str, Any] | None:
    """Give the same of the filter that knows the truth, at as many false detections per image; None if not known."""
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
    """Give bias and scatter of position, length and angle of the streaks found among ``rows``.

    The angle of a trail without length is left out.
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
    """Give the standard deviation of the normal distribution with the same median absolute value."""
    return 1.4826 * float(np.median(np.abs(deviations)))


def false_by_snr(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Give the false detections per image by measured S/N; those of no known S/N are left out."""
    edges = (0.0, *SNR_EDGES, np.inf)
    counts, _ = np.histogram(evaluation.false_snr[np.isfinite(evaluation.false_snr)], np.array(edges))
    return [
        {"lo": lo, "hi": None if hi == np.inf else hi, "n": int(n), "per_image": int(n) / max(evaluation.images, 1)}
        for lo, hi, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def curve(evaluation: Evaluation) -> list[dict[str, float | None]]:
    """Give completeness against false detections per image as the score above which one counts is raised.

    Returns
    -------
    list
        threshold, false_per_image, c7, c10; from the lowest score reported upwards, 200 points at most.
    """
    scores = np.unique(np.concatenate([evaluation.score[evaluation.found], evaluation.false_score]))
    if not len(scores):
        return []
    kept = np.unique(np.linspace(0, len(scores) - 1, _CURVE_POINTS).astype(int))
    return [_at_threshold(evaluation, float(scores[i])) for i in kept]


def at_false_rate(evaluation: Evaluation, rate: float) -> dict[str, float | None] | None:
    """Give completeness at the lowest threshold with at most ``rate`` false detections per image.

    Returns
    -------
    dict or None
        As in `curve`. None if fewer than that were reported, so that the threshold is not within reach.
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
