import json

import numpy as np
import pytest
from tests_support import truth_table

from flows.training.verdict_fit import Labelled, targets_of
from flows.training.verdict_report import choose_verdict, report_verdict, score_all
from schemas.reliability import FEATURES


def exposure(seed, real=15, false=40):
    """Streaks and false candidates that differ in the first two features by more than noise; all S/N are 20."""
    rng = np.random.default_rng(seed)
    label = np.repeat([1, 0], [real, false])
    features = rng.normal(size=(real + false, len(FEATURES))).astype(np.float32)
    features[:, 0] += 2.0 * label
    features[:, 1] += 4.0 * label
    rows = [("streak", 30.0 * n, 50.0, 3.0, 0.0, 20.0, 1.0) for n in range(real)]
    target = np.where(label == 1, np.arange(real + false), -1)
    return Labelled(features, label, target, targets_of(truth_table(rows)), np.full(real, 20.0))


@pytest.fixture(scope="module")
def chosen():
    return choose_verdict([exposure(n) for n in range(4)], [exposure(10 + n) for n in range(4)], 0.5, 0)


def test_threshold_is_set_on_the_validation_exposures(chosen):
    arrays, choice = chosen
    validation = [exposure(10 + n) for n in range(4)]
    passed = sum(
        int(((score >= choice["threshold"]) & (one.label == 0)).sum())
        for one, score in zip(validation, score_all(arrays, validation), strict=True)
    )
    assert passed == 2
    assert set(choice["rivals"]) == {"()", "(16,)", "(32, 16)"}


def test_report_counts_and_beats_the_summed_logit(chosen, tmp_path):
    arrays, choice = chosen
    tests = ([exposure(20 + n) for n in range(3)], [exposure(30 + n) for n in range(3)])
    figures = report_verdict(tmp_path, arrays, choice, tests, ["ztf", "ztf", "llnl"])
    confusion = figures["ztf"]["confusion_candidates"]
    assert confusion["real_passed"] + confusion["real_dropped"] == 30
    assert confusion["false_passed"] + confusion["false_dropped"] == 80
    assert figures["ztf"]["c7"]["found"] == confusion["real_passed"]
    assert figures["ztf"]["false_per_image"] == confusion["false_passed"] / 2
    assert figures["ztf"]["c7_at_1_false"] > figures["ztf"]["c7_at_1_false_summed_logit"]
    assert figures["llnl"]["exposures"] == 1
    assert figures["llnl"]["psf_misjudged"]["c10"][1] == 15
    assert 0 <= figures["calibration_error"] < 0.3
    json.dumps(figures)
    assert (tmp_path / "training_verdict.png").stat().st_size > 5000
