import json

import numpy as np

from flows.training.candidates import completeness, threshold_at
from flows.training.verdict_report import Scored, report_verdict, rivals, summed_logit
from schemas.reliability import FEATURES
from tests.flows.training.candidate_support import exposure


def good(one):
    return 1 / (1 + np.exp(-(one.features[:, 0] + 2 * one.features[:, 1] - 5)))


def scored(preset, examples, rank=good):
    ways = {"verdict": [rank(one) for one in examples], "summed logit": [one.features[:, 0] for one in examples]}
    return Scored(preset, examples, ways)


def test_report_counts_what_the_threshold_does(tmp_path):
    tests = {"ztf": [exposure(20), exposure(21)], "llnl": [exposure(22)]}
    right = [scored(preset, examples) for preset, examples in tests.items()]
    wrong = [scored(preset, examples, lambda one: good(one) / 2) for preset, examples in tests.items()]
    figures = report_verdict(tmp_path, right, {"psf_misjudged": (wrong, 0.5), "easier": (wrong, 0.25)}, 0.5)
    confusion = figures["ztf"]["confusion_candidates"]
    assert confusion["real_passed"] + confusion["real_dropped"] == 30
    assert confusion["false_passed"] + confusion["false_dropped"] == 80
    assert figures["ztf"]["c7"]["found"] == confusion["real_passed"]
    assert figures["ztf"]["c7"]["present"] == 30
    assert figures["ztf"]["false_per_image"] == confusion["false_passed"] / 2
    assert figures["ztf"]["verdict, at 1 false"]["c7"] > figures["ztf"]["summed logit, at 1 false"]["c7"]
    assert figures["llnl"]["exposures"] == 1
    assert figures["llnl"]["psf_misjudged"]["c10"]["found"] == 0
    assert figures["llnl"]["easier"] == {name: figures["llnl"][name] for name in ("c7", "c10", "false_per_image")}
    assert 0 <= figures["calibration_error"] < 0.3
    json.dumps(figures)
    assert (tmp_path / "training_verdict.png").read_bytes()[:4] == b"\x89PNG"


def test_rivals_rank_by_measurements_alone():
    found = rivals([exposure(n) for n in range(4)], 0)
    fresh = [exposure(30 + n) for n in range(3)]
    shares = {}
    for name, rank in {**found, "summed logit": summed_logit}.items():
        scores = [rank(one) for one in fresh]
        hit, present, _ = completeness(fresh, scores, threshold_at(fresh, scores, 1.0), 7.0)
        shares[name] = hit / present
    np.testing.assert_allclose(summed_logit(fresh[0]), fresh[0].features[:, FEATURES.index("log_logit_sum")], rtol=1e-6)
    assert found.keys() == {"logistic regression", "boosted trees"}
    assert shares["logistic regression"] > 0.9 > shares["summed logit"]
    assert shares["boosted trees"] > 0.8
