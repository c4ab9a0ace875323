"""Choose the verdict, and report how good it is."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from flows.training.verdict_fit import Labelled, completeness, fit_verdict, threshold_at
from kernels.completeness import binomial_interval
from kernels.verdict_net import reliability
from schemas.reliability import FEATURES

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend comes first

HIDDEN: tuple[tuple[int, ...], ...] = ((), (16,), (32, 16))
"""Sizes that compete: none is logistic regression, the simplest baseline beside the summed logit alone."""
SCAN = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 5.0, 10.0)


def choose_verdict(
    train: list[Labelled], validation: list[Labelled], false_per_image: float, seed: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Fit the competing verdicts; keep the one that finds most validation streaks (S/N >= 7) at 1 false per image.

    Returns
    -------
    arrays
        Weights for `VerdictNet`.
    chosen
        ``hidden``, ``threshold`` (at ``false_per_image`` on the validation set) and ``rivals``: found at 1 false per
        image for each size.
    """
    features = np.concatenate([one.features[one.label >= 0] for one in train])
    label = np.concatenate([one.label[one.label >= 0] > 0 for one in train]).astype(np.int64)
    best: tuple[int, tuple[int, ...], dict[str, NDArray[Any]]] | None = None
    rivals = {}
    for hidden in HIDDEN:
        arrays = fit_verdict(features, label, hidden, seed)
        scores = score_all(arrays, validation)
        found, present, _ = completeness(validation, scores, threshold_at(validation, scores, 1.0), 7.0)
        rivals[str(hidden)] = f"{found}/{present}"
        if best is None or found > best[0]:
            best = found, hidden, arrays
    assert best is not None
    _, hidden, arrays = best
    threshold = threshold_at(validation, score_all(arrays, validation), false_per_image)
    return arrays, {"hidden": list(hidden), "threshold": threshold, "rivals": rivals}


def score_all(arrays: dict[str, NDArray[Any]], examples: list[Labelled]) -> list[NDArray[np.floating]]:
    """Give the reliability of all candidates of each exposure."""
    return [reliability(one.features, arrays) for one in examples]


def report_verdict(
    out: Path,
    arrays: dict[str, NDArray[Any]],
    chosen: dict[str, Any],
    tests: tuple[list[Labelled], list[Labelled]],
    presets: list[str],
) -> dict[str, Any]:
    """Measure on the test exposures, per preset; draw ``training_verdict.png``; give the figures for the card.

    ``tests`` are the exposures measured with their own PSF, which the figures are of, and with another, for comparison.
    """
    test, wrong = tests
    scores = score_all(arrays, test)
    summed = [one.features[:, FEATURES.index("log_logit_sum")] for one in test]
    figures: dict[str, Any] = {"rivals_validation_c7_at_1_false": chosen["rivals"]}
    _, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for preset in sorted(set(presets)):
        mine = [n for n, name in enumerate(presets) if name == preset]
        examples, ours, plain = [test[n] for n in mine], [scores[n] for n in mine], [summed[n] for n in mine]
        figures[preset] = _figures(examples, ours, plain, chosen["threshold"])
        other = [wrong[n] for n in mine]
        found, present, false = completeness(other, score_all(arrays, other), chosen["threshold"], 10.0)
        figures[preset]["psf_misjudged"] = {"c10": [found, present], "false_per_image": round(false, 3)}
        for rank, style, name in ((ours, "-", "verdict"), (plain, "--", "summed logit")):
            c7 = [_at(examples, rank, false, 7.0) for false in SCAN]
            axes[0].plot(SCAN, c7, style, marker="o", ms=3, label=f"{preset}, {name}")
    label = np.concatenate([one.label for one in test])
    asked = (label == 0) | (label == 1)
    figures["calibration_error"] = _calibration(axes[1], np.concatenate(scores)[asked], label[asked])
    axes[0].set(xscale="log", xlabel="false detections per image", ylabel="completeness, S/N ≥ 7", ylim=(0, 1.02))
    axes[0].legend(frameon=False)
    plt.savefig(out / "training_verdict.png", dpi=110)
    plt.close()
    return figures


def _figures(
    examples: list[Labelled], scores: list[NDArray[np.floating]], plain: list[NDArray[np.floating]], threshold: float
) -> dict[str, Any]:
    figures: dict[str, Any] = {"exposures": len(examples)}
    for least in (7.0, 10.0):
        found, present, false = completeness(examples, scores, threshold, least)
        low, high = binomial_interval(found, present)
        figures[f"c{least:.0f}"] = {"found": found, "present": present, "interval": [round(low, 4), round(high, 4)]}
        figures["false_per_image"] = round(false, 3)
        figures[f"c{least:.0f}_at_1_false"] = round(_at(examples, scores, 1.0, least), 4)
        figures[f"c{least:.0f}_at_1_false_summed_logit"] = round(_at(examples, plain, 1.0, least), 4)
    real = np.concatenate([one.label for one in examples])
    passed = np.concatenate(scores) >= threshold
    figures["confusion_candidates"] = {
        "real_passed": int(((real == 1) & passed).sum()),
        "real_dropped": int(((real == 1) & ~passed).sum()),
        "false_passed": int(((real == 0) & passed).sum()),
        "false_dropped": int(((real == 0) & ~passed).sum()),
    }
    return figures


def _at(examples: list[Labelled], scores: list[NDArray[np.floating]], false: float, least: float) -> float:
    found, present, _ = completeness(examples, scores, threshold_at(examples, scores, false), least)
    return found / max(present, 1)


def _calibration(axis: Any, score: NDArray[np.floating], label: NDArray[np.int64]) -> float:
    """Draw observed against stated reliability in ten bins; give the expected calibration error."""
    place = np.minimum((score * 10).astype(int), 9)
    bins = [n for n in range(10) if (place == n).any()]
    stated = np.array([score[place == n].mean() for n in bins])
    seen = np.array([label[place == n].mean() for n in bins])
    share = np.array([(place == n).mean() for n in bins])
    axis.plot([0, 1], [0, 1], color="0.7", lw=1)
    axis.plot(stated, seen, "o-")
    axis.set(xlabel="reliability", ylabel="share that is real", title="test exposures")
    return round(float((np.abs(stated - seen) * share).sum()), 4)
