import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.special import expit
from scipy.stats import binomtest, poisson

from flows.results.evaluation.summary import (
    accuracy,
    at_false_rate,
    curve,
    false_by_snr,
    night_tables,
    share_text,
    stamp_tables,
    summarise,
)
from kernels.trails.matched_filter import oracle_threshold
from tests.support.evaluation import AREA, evaluation_of, rows_of

SNR = np.array([4.0, 6.0, 8.0, 12.0, 20.0, 40.0])
MISSED = -np.inf


def test_has_every_figure_asked_for():
    figures = summarise(evaluation_of(SNR, [MISSED, MISSED, 0.5, MISSED, 0.9, 0.9], [0.4, 0.6, 0.7]))
    assert {"images", "n_streaks", "false_per_image", "c7", "c10", "s50", "oracle", "curve"} <= figures.keys()
    assert (figures["images"], figures["n_streaks"], figures["false_per_image"]) == (2, 6, 1.5)
    assert figures["c7"] == 3 / 4
    assert figures["c10"] == 2 / 3
    assert figures["purity"] == 0.5
    bins = figures["completeness_by_snr"]
    assert [(each["lo"], each["hi"]) for each in bins] == [(3, 5), (5, 7), (7, 10), (10, 15), (15, 25), (25, 50)]
    assert [each["found"] for each in bins] == [0, 0, 1, 0, 1, 1]
    assert {"lo", "hi", "n", "found", "completeness", "interval"} == bins[0].keys()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(3, 50), st.sampled_from([MISSED, 0.2, 0.7])), max_size=30),
    st.lists(st.floats(0, 1), max_size=10),
    st.integers(0, 3),
)
def test_is_json_whatever_was_found(streaks, false, images):
    snr, score = zip(*streaks, strict=True) if streaks else ((), ())
    json.dumps(summarise(evaluation_of(snr, score, false, images or (1 if false else 0))), allow_nan=False)


def test_oracle_is_held_to_the_same_number_of_false_alarms():
    rng = np.random.default_rng(1)
    snr = rng.uniform(3, 50, 600)
    oracle = snr + rng.standard_normal(600)
    figures = summarise(evaluation_of(snr, np.where(snr > 9, 1.0, MISSED), [0.5] * 6, images=3, oracle_snr=oracle))
    threshold = oracle_threshold(2.0, AREA)
    assert figures["oracle"]["threshold"] == pytest.approx(threshold)
    assert figures["oracle"]["c7"] == pytest.approx(np.mean(oracle[snr >= 7] > threshold))
    assert figures["oracle"]["s50"] == pytest.approx(threshold, abs=0.3)
    assert figures["s50"] == pytest.approx(9, abs=0.3)


def test_oracle_of_a_search_without_false_alarms():
    figures = summarise(evaluation_of(SNR, SNR, images=10, oracle_snr=SNR))
    assert figures["false_per_image"] == 0
    assert figures["oracle"]["false_per_image"] == pytest.approx(np.log(2) / 10)


def test_no_oracle_says_why():
    figures = summarise(evaluation_of(SNR, SNR))
    assert figures["oracle"] is None
    assert "no pixels" in figures["oracle_reason"]


def test_oracle_counts_only_the_streaks_whose_pixels_are_there():
    figures = summarise(evaluation_of(SNR, SNR, oracle_snr=np.where(SNR > 7, SNR, np.nan)))
    assert figures["oracle"]["n_streaks"] == 4


def test_accuracy_against_numpy():
    rng = np.random.default_rng(2)
    errors = {name: rng.normal(0.3, 2.0, 4000) for name in ("dx", "dy", "length_error", "angle_error")}
    figures = accuracy(evaluation_of(np.full(4000, 20.0), np.ones(4000), **errors), np.ones(4000, bool))
    position = figures["position_px"]
    distance = np.hypot(errors["dx"], errors["dy"])
    assert position["bias_x"] == np.median(errors["dx"])
    assert position["median"] == np.median(distance)
    assert position["rms"] == pytest.approx(np.sqrt(np.mean(distance**2)))
    assert position["scatter"] == pytest.approx(2.0, rel=0.05)
    assert figures["length_px"]["bias"] == pytest.approx(0.3, abs=0.1)
    assert figures["length_px"]["scatter"] == pytest.approx(2.0, rel=0.05)
    assert figures["angle_deg"]["rms"] == pytest.approx(np.sqrt(np.mean(errors["angle_error"] ** 2)))
    assert figures["angle_deg"]["median"] == np.median(np.abs(errors["angle_error"]))


def test_points_have_no_angle_and_the_missed_no_error():
    error = np.array([1.0, 2.0, np.nan])
    one = evaluation_of([20, 20, 20], [1, 1, MISSED], length=np.array([0.0, 9.0, 9.0]), angle_error=error, dx=error)
    figures = accuracy(one, np.ones(3, bool))
    assert figures["position_px"]["n"] == 2
    assert figures["angle_deg"]["n"] == 1
    assert figures["angle_deg"]["bias"] == 2.0


def test_bright_and_long_are_told_apart():
    one = evaluation_of(
        [9, 11, 11], [1, 1, 1], length=np.array([20.0, 7.0, 8.0]), length_error=np.array([5.0, 4.0, 1.0])
    )
    figures = summarise(one)
    assert figures["length_px"]["bias"] == 4.0
    assert figures["accuracy_bright_long"]["length_px"]["bias"] == 1.0


def test_false_detections_by_signal_to_noise():
    one = evaluation_of(SNR, SNR, [0.1] * 3)
    rows = false_by_snr(one)
    assert [row["n"] for row in rows] == [0, 0, 3, 0, 0, 0, 0, 0]
    assert rows[2]["per_image"] == 1.5


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12), st.sampled_from([0.5, 1.0, 2.0]))
def test_curve_falls_and_its_point_at_a_rate_is_the_best_allowed(false, rate):
    one = evaluation_of(SNR, [MISSED, 0.15, 0.25, 0.35, 0.4, 0.2], false)
    rows = curve(one)
    rates = [row["false_per_image"] for row in rows]
    shares = [row["c7"] for row in rows]
    assert rates == sorted(rates, reverse=True)
    assert shares == sorted(shares, reverse=True)
    assert rates[0] == one.false_per_image
    point = at_false_rate(one, rate)
    if one.false_per_image < rate:
        assert point is None
    else:
        assert point["c7"] == max([row["c7"] for row in rows if row["false_per_image"] <= rate], default=0.0)


def test_rate_that_no_threshold_allows():
    point = at_false_rate(evaluation_of(SNR, [0.1] * 6, [0.9] * 8), 1.0)
    assert point == {"threshold": None, "false_per_image": 0.0, "c7": 0.0, "c10": 0.0}


def text_of(tables):
    console = Console(width=160, file=StringIO())
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def evaluation(n, oracle):
    errors = {name: np.full(n, 0.25) for name in ("dx", "dy", "length_error", "angle_error")}
    known = {"length": np.full(n, 9.0), "oracle_snr": np.full(n, oracle), "false_snr": np.array([5.0, 6.0])}
    score = np.where(np.arange(n) % 4 > 0, 0.5, -np.inf)
    return evaluation_of(np.full(n, 12.0), score, [0.1, 0.6], oracle_area_px=9e6, **known, **errors)


@pytest.mark.parametrize("oracle", [12.0, np.nan])
def test_shows_the_figures(oracle):
    shown = text_of(night_tables(summarise(evaluation(40, oracle))))
    assert "40 streaks on 2 images" in shown
    assert "0.750" in shown
    assert ("1.000 (0.91-1.00)" in shown) == np.isfinite(oracle)
    assert "0.250" in shown  # bias


def test_shows_a_night_without_streaks():
    assert "0 streaks on 2 images" in text_of(night_tables(summarise(evaluation(0, np.nan))))


def test_share():
    assert share_text({"completeness": None, "interval": [0, 1]}) == "-"
    assert share_text({"completeness": 0.5, "interval": [0.25, 0.75]}) == "0.500 (0.25-0.75)"


def test_shows_stamps():
    group = {"n": 10, "found": 5, "completeness": 0.5, "interval": [0.2, 0.8]}
    row = {"min_reliability": 0.3, "groups": {"known_asteroids": group, "low_rb": group}}
    figures = {"stamps": 20, "truncated": 1, "at_default": row, "thresholds": [row | {"min_reliability": 0.9}]}
    figures |= {"auc_known_asteroids_against_low_rb": {"value": 0.71, "interval": [0.6, 0.8]}}
    shown = text_of(stamp_tables(figures))
    assert "20 stamps, 1 of them cut" in shown
    assert "0.3 (default)" in shown
    assert "0.9 " in shown
    assert "low rb, 10" in shown
    assert "0.710 (0.60-0.80)" in " ".join(shown.split())


def test_bright_and_long_are_those_at_the_limits_too():
    snr = np.array([10.0, 9.999, 10.0, 9.999, 50.0])
    length = np.array([8.0, 8.0, 7.999, 7.999, 60.0])
    figures = summarise(evaluation_of(snr, np.ones(5), length=length))
    assert figures["accuracy_bright_long"]["position_px"]["n"] == 2
    assert figures["position_px"]["n"] == 5


def test_what_has_no_length_has_no_angle_and_what_was_missed_no_errors():
    found = evaluation_of([9.0, 9.0, 9.0], [1.0, 1.0, MISSED], length=np.array([0.0, 5e-324, 5.0]))
    every = accuracy(found, np.ones(3, bool))
    assert [every[name]["n"] for name in ("position_px", "length_px", "angle_deg")] == [2, 2, 1]
    none = accuracy(found, np.array([False, False, True]))
    assert [none[name]["n"] for name in ("position_px", "length_px", "angle_deg")] == [0, 0, 0]
    assert {value for name, value in none["position_px"].items() if name != "n"} == {None}


def test_false_detections_on_an_edge_belong_to_the_brighter_bin():
    given = evaluation_of([9.0], [1.0], [0.5] * 7)
    object.__setattr__(given, "false_snr", np.array([0.0, 2.999, 3.0, 5.0, 50.0, 1e9, np.nan]))
    told = {(one["lo"], one["hi"]): (one["n"], one["per_image"]) for one in false_by_snr(given)}
    assert {edges: n for edges, (n, _) in told.items() if n} == {(0, 3): 2, (3, 5): 1, (5, 7): 1, (50, None): 2}
    assert told[0, 3][1] == 1.0


@pytest.mark.parametrize(
    ("rate", "threshold", "left"),
    [(2.0, 0.1, 2.0), (1.75, 0.2, 1.5), (1.5, 0.2, 1.5), (1.0, 0.25, 1.0), (0.5, 0.4, 0.5), (0.4, 0.9, 0.0)],
)
def test_the_lowest_threshold_that_allows_a_rate_is_taken(rate, threshold, left):
    """Four false detections on two images, at 0.1 to 0.4; streaks found at 0.25 and 0.9."""
    given = evaluation_of([9.0, 12.0], [0.9, 0.25], [0.3, 0.1, 0.4, 0.2])
    at = at_false_rate(given, rate)
    assert (at["threshold"], at["false_per_image"]) == (threshold, left)
    assert at_false_rate(given, 2.001) is None


def test_a_threshold_is_itself_enough():
    given = evaluation_of([8.0, 11.0], [0.5, 0.7], [0.5, 0.7], images=1)
    low, high = curve(given)
    assert (low["threshold"], low["false_per_image"], low["c7"], low["c10"]) == (0.5, 2.0, 1.0, 1.0)
    assert (high["threshold"], high["false_per_image"], high["c7"], high["c10"]) == (0.7, 1.0, 0.5, 1.0)
    beyond = at_false_rate(given, 0.5)
    assert (beyond["threshold"], beyond["false_per_image"], beyond["c7"]) == (None, 0.0, 0.0)
    assert curve(evaluation_of([8.0], [MISSED])) == []


def test_purity_depends_on_how_many_asteroids_there_are():
    """Two images: three of four streaks found, two rows on variable stars, one artefact."""
    one = replace(evaluation_of([8.0] * 4, [0.5, 0.5, 0.5, MISSED], [0.4]), rows=rows_of([1, 1, 1, 0], 1, other=2))
    figures = summarise(one)
    assert figures["rows_per_image"] == {
        "streak": 1.5, "other": 1.0, "satellite": 0.0, "satellite_unclassed": 0.0, "artefact": 0.5,
    }  # fmt: skip
    for sky, each in zip((0.1, 1.0, 20.0), figures["purity_by_sky"], strict=True):
        assert each["asteroids_per_image"] == sky
        assert each["among_moving"] == pytest.approx(0.75 * sky / (0.75 * sky + 0.5))
        assert each["among_rows"] == pytest.approx(0.75 * sky / (0.75 * sky + 1.5))
    assert figures["false_per_9_5_mpx"] == pytest.approx(0.5 / 0.95)
    low, high = figures["false_per_image_interval"]
    assert poisson.sf(0, 2 * low) == pytest.approx(0.025)
    assert poisson.cdf(1, 2 * high) == pytest.approx(0.025)
    (none,) = {one["among_moving"] for one in summarise(evaluation_of([], []))["purity_by_sky"]}
    assert none is None


def test_trails_under_a_pixel_have_a_figure_of_their_own():
    length = np.array([0.0, 0.99, 0.5, 1.0, 0.5, 12.0])
    figures = summarise(evaluation_of([8, 9, 6.9, 8, 30, 40], [0.5, MISSED, 0.5, 0.5, MISSED, 0.5], length=length))
    assert figures["c7_under_1_px"] == 1 / 3
    assert figures["c7_under_1_px_interval"] == pytest.approx(binomtest(1, 3).proportion_ci(), rel=1e-6)


def test_the_interval_of_s50_holds_it_and_narrows_with_more_streaks():
    rng = np.random.default_rng(4)
    snr = np.exp(rng.uniform(np.log(3), np.log(50), 600))
    found = rng.random(600) < 0.98 * expit(6 * np.log(snr / 8))
    many, few = (summarise(evaluation_of(snr[:n], np.where(found[:n], 0.5, MISSED))) for n in (600, 100))
    low, high = many["s50_interval"]
    assert low < many["s50"] < high
    assert few["s50_interval"][1] - few["s50_interval"][0] > high - low
    assert summarise(evaluation_of(snr, np.full(600, 0.5)))["s50_interval"] is None
