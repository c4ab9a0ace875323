import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from flows.training import reliability_fit
from flows.training.candidates import candidate_completeness, candidate_threshold
from flows.training.fits import SCAN, calibrate, turned
from flows.training.reliability_fit import (
    ReliabilityFit,
    ScoredCandidates,
    features_and_labels,
    fit_reliability,
    report_reliability,
    rivals,
    summed_logit,
)
from kernels.measure.reliability_net import reliability_of
from kernels.nets.reliability_cnn import ReliabilityCnn
from kernels.statistics.class_scores import reliability_diagram
from kernels.statistics.completeness import binomial_interval
from schemas.dia_source import FEATURES
from tests.support.candidates import exposure

FIT = ReliabilityFit(networks=2, epochs=5, batch=8, rate=6e-3)


@pytest.fixture(scope="module")
def fitted():
    lines = []
    return fit_reliability([exposure(n) for n in range(4)], FIT, 0, lines.append), lines


def odds_of(nets, one):
    stamps, features = torch.from_numpy(one.stamps.astype(np.float32)), torch.from_numpy(one.features)
    with torch.no_grad():
        return sum(net(stamps, features) for net in nets).numpy() / len(nets)


def test_learns_what_is_real(fitted):
    nets, lines = fitted
    assert len(nets) == FIT.networks
    assert not any(net.training for net in nets)
    assert len(lines) == 1 + FIT.networks * FIT.epochs
    assert lines[0] == "reliability of 220 candidates, 60 of them real"
    fresh = exposure(50, 60, 60)
    assert ((odds_of(nets, fresh) > 0) == (fresh.label == 1)).mean() > 0.9


@pytest.mark.usefixtures("on_the_processor")
def test_members_differ_and_the_seed_decides():
    few, short = [exposure(n, 8, 12) for n in range(2)], replace(FIT, epochs=2)
    nets, again = (fit_reliability(few, short, 0, lambda line: None) for _ in range(2))
    for one, other in zip(nets, again, strict=True):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert not torch.equal(nets[0].joined[0].weight, nets[1].joined[0].weight)


@pytest.mark.usefixtures("on_the_processor")
def test_what_is_neither_real_nor_false_teaches_nothing():
    one, fit = exposure(0), ReliabilityFit(networks=1, epochs=1, batch=16)
    doubt = np.where(np.arange(len(one.label)) % 5 == 0, -1, one.label)
    spoilt = one.features.copy()
    spoilt[doubt < 0] = 1e6
    (clean,) = fit_reliability([replace(one, label=doubt)], fit, 0, lambda line: None)
    (other,) = fit_reliability([replace(one, label=doubt, features=spoilt)], fit, 0, lambda line: None)
    assert torch.equal(clean.joined[0].weight, other.joined[0].weight)
    np.testing.assert_allclose(clean.mean.numpy(), one.features[doubt >= 0].mean(0), atol=1e-5)


def test_the_eight_symmetries():
    stamp = torch.arange(16.0).reshape(1, 1, 4, 4)
    all_eight = {tuple(turned(stamp, n).flatten().tolist()) for n in range(8)}
    square = stamp[0, 0].numpy()
    expected = {tuple(np.rot90(way, k).ravel().tolist()) for k in range(4) for way in (square, square[:, ::-1])}
    assert all_eight == expected


@pytest.mark.parametrize(("slope", "offset"), [(0.4, 1.5), (2.0, -1.0)])
def test_calibration_recovers_a_known_slope_and_offset(slope, offset):
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 3, 40_000)
    real = rng.random(40_000) < 1 / (1 + np.exp(-(slope * log_odds + offset)))
    assert calibrate(log_odds, real) == pytest.approx((slope, offset), abs=0.06)


def test_the_expected_calibration_error_falls():
    rng = np.random.default_rng(1)
    log_odds = rng.normal(0, 4, 20_000)
    real = rng.random(20_000) < 1 / (1 + np.exp(-(0.4 * log_odds - 0.7)))

    def error(parameters, part):
        stated, seen, share = reliability_diagram(reliability_of(log_odds[part], *parameters), real[part].astype(int))
        return (np.abs(stated - seen) * share).sum()

    first, second = slice(0, 10_000), slice(10_000, None)
    found = calibrate(log_odds[first], real[first])
    assert error((1.0, 0.0), second) > 0.1
    assert error(found, second) < 0.02


def test_a_perfect_separation_has_a_finite_slope():
    odds = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    slope, _ = calibrate(odds, odds > 0)
    assert 0 < slope < 10


def good(one):
    return 1 / (1 + np.exp(-(one.features[:, 0] + 2 * one.features[:, 1] - 5)))


def scored(preset, examples, rank=good):
    ways = {"verdict": [rank(one) for one in examples], "summed logit": [one.features[:, 0] for one in examples]}
    return ScoredCandidates(preset, examples, ways)


def test_report_counts_what_the_threshold_does(tmp_path):
    tests = {"ztf": [exposure(20), exposure(21)], "llnl": [exposure(22)]}
    right = [scored(preset, examples) for preset, examples in tests.items()]
    wrong = [scored(preset, examples, lambda one: good(one) / 2) for preset, examples in tests.items()]
    figures = report_reliability(tmp_path, right, {"psf_misjudged": (wrong, 0.5), "easier": (wrong, 0.25)}, 0.5)
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
    assert (tmp_path / "training_reliability.png").read_bytes()[:4] == b"\x89PNG"


def test_rivals_rank_by_measurements_alone():
    found = rivals([exposure(n) for n in range(4)], 0)
    fresh = [exposure(30 + n) for n in range(3)]
    shares = {}
    for name, rank in {**found, "summed logit": summed_logit}.items():
        scores = [rank(one) for one in fresh]
        hit, present, _ = candidate_completeness(fresh, scores, candidate_threshold(fresh, scores, 1.0), 7.0)
        shares[name] = hit / present
    np.testing.assert_allclose(summed_logit(fresh[0]), fresh[0].features[:, FEATURES.index("log_logit_sum")], rtol=1e-6)
    assert found.keys() == {"logistic regression", "boosted trees"}
    assert shares["logistic regression"] > 0.9 > shares["summed logit"]
    assert shares["boosted trees"] > 0.8


@pytest.mark.usefixtures("one_thread", "on_the_processor")
def test_a_fit_is_decided_by_its_plan_and_its_seed(fit_settings):
    lines, one = [], exposure(3)
    first, second = fit_reliability([one], ReliabilityFit(2, 2, 20, 3e-3, 2e-3), 4, lines.append)
    assert fit_settings == [(3e-3, 2e-3), (3e-3, 2 * 2, 0.15)] * 2
    assert [line.rpartition(" ")[0] for line in lines[1:]] == [
        f"network {n}, pass {number} of 2: loss" for n in (4, 5) for number in (1, 2)
    ]
    np.testing.assert_allclose([float(line.rpartition(" ")[2]) for line in lines[1:]], GOLDEN_LOSS, rtol=2e-3)
    np.testing.assert_allclose(first.mean.numpy(), one.features.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first.scale.numpy(), one.features.std(0, ddof=1) + 1e-3, rtol=1e-5)
    assert isinstance(second, ReliabilityCnn)
    fit_settings.clear()
    fit_reliability([exposure(3, 2, 3)], ReliabilityFit(1, 1, 20), 4, lines.append)
    assert fit_settings == [(2e-3, 1e-3), (2e-3, 1, 0.15)]
    assert ReliabilityFit() == ReliabilityFit(2, 8, 128, 2e-3, 1e-3)


GOLDEN_LOSS = [0.6814, 0.6499, 0.6370, 0.6116]


def test_satellites_are_real_to_a_verdict_and_doubtful_ones_are_not_measured():
    one = exposure(0, 4, 4)
    one = replace(one, label=np.array([1, 2, -1, 0, 1, 0, -1, 2]))
    features, real = features_and_labels([one, one])
    assert real.tolist() == [1, 1, 0, 1, 0, 1] * 2
    np.testing.assert_array_equal(features, np.tile(one.features[one.label >= 0], (2, 1)))
    said = []
    fit_reliability([one], ReliabilityFit(1, 1, 8), 0, said.append)
    assert said[0] == "reliability of 6 candidates, 4 of them real"


def test_a_report_tells_of_thresholds_and_draws_what_it_says(saved, tmp_path):
    examples = [exposure(20), exposure(21), exposure(22)]
    examples[0].snr[:4] = [7.0, 6.99, 10.0, 9.99]
    examples[1] = replace(examples[1], label=np.where(np.arange(55) % 11 == 5, 2, examples[1].label))
    one = scored("ztf", examples)
    one.scores["verdict"][0][0] = 0.5  # just enough
    figures = report_reliability(tmp_path, [one], {"again": ([one], 0.9)}, 0.5)
    for found, threshold in ((figures["ztf"], 0.5), (figures["ztf"]["again"], 0.9)):
        for least in (7.0, 10.0):
            hit, present, false = candidate_completeness(examples, one.scores["verdict"], threshold, least)
            low, high = binomial_interval(hit, present)
            assert found[f"c{least:.0f}"] == {
                "found": hit, "present": present, "interval": [round(low, 4), round(high, 4)]
            }  # fmt: skip
        assert found["false_per_image"] == round(false, 3)
    assert figures["ztf"]["c7"]["present"] == 3 * 15 - 1
    assert figures["ztf"]["c10"]["present"] == 3 * 15 - 3
    label, score = np.concatenate([part.label for part in examples]), np.concatenate(one.scores["verdict"])
    real, false, passed = label == 1, label == 0, score >= 0.5
    assert figures["ztf"]["confusion_candidates"] == {
        "real_passed": (real & passed).sum(), "real_dropped": (real & ~passed).sum(),
        "false_passed": (false & passed).sum(), "false_dropped": (false & ~passed).sum(),
    }  # fmt: skip
    stated, seen, share = reliability_diagram(score, (label > 0).astype(int))
    assert figures["calibration_error"] == round(float((np.abs(stated - seen) * share).sum()), 4)
    curves = {}
    for name, scores in one.scores.items():
        shares = []
        for rate in (*SCAN, 1.0):
            level = candidate_threshold(examples, scores, rate)
            shares.append([candidate_completeness(examples, scores, level, least)[:2] for least in (7.0, 10.0)])
        curves[name] = [found / present for (found, present), _ in shares[:-1]]
        expected = {f"c{n}": round(a / b, 4) for n, (a, b) in zip((7, 10), shares[-1], strict=True)}
        assert figures["ztf"][f"{name}, at 1 false"] == expected
    ((figure, dpi),) = saved
    assert (dpi, tuple(figure.get_size_inches())) == (110, (6.8, 3.6))
    left, right = figure.axes
    for line, name, style in zip(left.lines, one.scores, ("-", ":"), strict=True):
        assert line.get_xdata().tolist() == list(SCAN)
        np.testing.assert_allclose(line.get_ydata(), curves[name])
        assert (line.get_linestyle(), line.get_markersize(), line.get_label()) == (style, 3, name)
    assert (left.get_xscale(), left.get_ylim(), left.get_title()) == ("log", (0, 1.02), "ztf")
    legend = left.get_legend()
    assert (legend.get_frame_on(), legend.get_texts()[0].get_fontsize()) == (False, 8)
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [[0, 0], [1, 1]])
    assert (right.lines[0].get_color(), right.lines[0].get_linewidth()) == ("0.7", 1)
    np.testing.assert_array_equal(right.lines[1].get_xydata(), np.stack([stated, seen], 1))


def test_without_streaks_nothing_is_complete():
    one = exposure(1, 0, 10)
    assert reliability_fit._at([one], [one.features[:, 0]], 1.0, 7.0) == 0
    assert expit(0) == 0.5
