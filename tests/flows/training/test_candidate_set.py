import numpy as np
import pytest
from scipy.special import logit

from flows.pipeline.weights import read_card, read_weights
from flows.pipeline.weights import read_weights as weights_of
from flows.training.candidate_set import (
    CandidateSet,
    candidate_card,
    candidate_cutouts,
    candidate_labels,
    candidate_set,
    found_above,
    report_candidates,
    threshold_at,
    write_matched_filter,
)
from kernels.search.shape_features import FEATURES
from kernels.statistics.completeness import binomial_interval
from kernels.statistics.matching import Targets
from schemas.pixels import SearchGrid
from schemas.settings import NOISE_ALONE


def targets(*rows):
    kind, *columns = zip(*rows, strict=True)
    return Targets(np.array(kind), *(np.array(column, float) for column in columns))


def labels(places, score, there, snr):
    x, y = np.array(places, float).T
    return candidate_labels(x, y, np.array(score, float), there, np.array(snr, float)).tolist()


def test_the_best_candidate_on_a_streak_is_it():
    there = targets(("streak", 50, 50, 30, 0, 1.0))
    places = [(40, 50), (50.5, 50), (50, 57), (50, 80), (50, 52.5)]
    assert labels(places, [10, 9, 30, 9, 6], there, [9]) == [-1, 1, -1, 0, -1]


def test_other_sources_teach_nothing_and_holes_are_false():
    there = targets(
        ("point", 20, 20, 0, 0, 1.0),
        ("satellite", 100, 100, 80, 0, 1.0),
        ("streak", 60, 20, 5, 0, 0.3),
        ("streak", 20, 60, 5, 0, 1.0),
    )
    places = [(21, 20), (130, 109), (130, 112), (60, 21), (20, 60)]
    assert labels(places, [9] * 5, there, [8, 90, 9, -9]) == [-1, -1, 0, -1, 0]


def test_candidates_of_an_exposure(examples):
    found = candidate_set(examples[0])
    assert found.features.shape == (len(found.x), len(FEATURES))
    assert np.isfinite(found.features).all()
    asked = found.targets.counted & (found.snr >= 8)
    matched = found.matches(found.features[:, 0]).target
    assert asked.sum() >= 3
    assert np.isin(np.flatnonzero(asked), matched).mean() >= 0.8
    assert (found.label == 1).sum() >= 0.8 * asked.sum()
    cutouts = candidate_cutouts(examples[0], np.flatnonzero(found.label == 1))
    assert len(cutouts) == (found.label == 1).sum()
    middle = cutouts[:, 1, 8:16, 24:40].max((1, 2))
    assert (middle > 1.5).all()


def test_card_names_the_grid_and_how_it_was_made():
    card = candidate_card("boosted", {"kind": "boosted"}, {"plan": 1}, {"found": 2}, 0.25)
    assert SearchGrid(**card["input"]["grid"]).stride == 4
    assert (card["training"], card["metrics"], card["threshold"]) == ({"plan": 1}, {"found": 2}, 0.25)


def test_matched_filter_needs_no_learning(tmp_path):
    write_matched_filter(tmp_path)
    card, arrays = read_weights("detect", str(tmp_path))
    assert list(arrays) == ["floor"]
    threshold = read_card("detect", str(tmp_path)).threshold
    assert np.sqrt(2 * logit(threshold) + NOISE_ALONE**2) == pytest.approx(10, abs=0.01)
    assert card.input["kind"] == "matched_filter"


def one_set():
    """Three streaks, of S/N 12, 8 and 5; candidates on the first two, and three on nothing."""
    kind = np.array(["streak"] * 3)
    targets = Targets(kind, *np.array([[10.0, 50, 90], [10, 50, 90], [0, 0, 0], [0, 0, 0], [1, 1, 1]]))
    x = np.array([10.0, 50, 200, 220, 240])
    return CandidateSet(x, x.copy(), np.zeros((5, 1), np.float32), np.zeros(5, int), targets, np.array([12.0, 8, 5]))


SCORE = np.array([5.0, 1.0, 3.0, 2.0, -1.0])


def test_threshold_lets_as_many_false_ones_through_as_are_allowed():
    sets, scores = [one_set(), one_set()], [SCORE, SCORE - 0.5]
    for allowed, expected in ((0.5, 1), (1.0, 2), (2.0, 4), (3.0, 6)):
        threshold = threshold_at(sets, scores, allowed)
        assert found_above(sets, scores, threshold, 7)[2] * 2 == expected
    assert threshold_at(sets, scores, 3.0) == -1.5


def test_streaks_above_are_counted():
    assert found_above([one_set()], [SCORE], 0.0, 7) == (2, 2, 2.0)
    assert found_above([one_set()], [SCORE], 4.0, 7) == (1, 2, 0.0)
    assert found_above([one_set()], [SCORE], 4.0, 10) == (1, 1, 0.0)
    assert found_above([one_set()], [SCORE], -9.0, 4) == (2, 3, 3.0)


def test_report_has_intervals():
    sets = ([one_set()], [SCORE])
    figures = report_candidates(sets, sets)
    row = figures["at_1_false"]
    assert row["false_per_image"] == 1
    assert row["snr_7"]["found"] == 1
    low, high = binomial_interval(1, 2)
    assert row["snr_7"]["interval"] == [pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4)]


@pytest.mark.parametrize(
    ("kind", "away", "label"),
    [
        ("streak", 3.0, 1), ("streak", 3.1, -1), ("point", 8.0, -1), ("point", 8.1, 0), ("satellite", 10.0, -1),
        ("satellite", 10.1, 0), ("streak", 8.0, -1), ("streak", 8.1, 0),
    ],
)  # fmt: skip
def test_candidates_are_on_a_source_or_beside_it_up_to_a_distance(kind, away, label):
    there = targets((kind, 50, 50, 30, 0, 1.0))
    assert labels([(50, 50 + away)], [9], there, [9]) == [label]
    assert labels([(50, 50 - away)], [9], there, [0.0]) == [label]


@pytest.mark.parametrize(("score", "chosen"), [(7.0, 1), (6.99, 0)])
def test_of_candidates_seven_tenths_as_bright_the_nearest_to_the_middle_is_it(score, chosen):
    there = targets(("streak", 50, 50, 30, 0, 1.0))
    found = labels([(40, 50), (51, 50)], [10, score], there, [9])
    assert found == [1 if n == chosen else -1 for n in range(2)]


def test_a_source_without_brightness_is_no_hole():
    assert labels([(50, 50)], [9], targets(("point", 50, 50, 0, 0, 1.0)), [0.0]) == [-1]
    assert labels([(50, 50)], [9], targets(("point", 50, 50, 0, 0, 1.0)), [-0.1]) == [0]


def test_candidates_lie_in_the_middle_of_their_lines(examples):
    from flows.training.candidate_set import find_on

    plane, _, peaks, lines = find_on(examples[0])
    found = candidate_set(examples[0])
    np.testing.assert_array_equal(found.x, peaks.x + lines[:, 0])
    np.testing.assert_array_equal(found.y, peaks.y + lines[:, 1])
    assert plane.pixels.shape == (420, 450)
    expected = candidate_labels(found.x, found.y, lines[:, 4], found.targets, found.snr)
    np.testing.assert_array_equal(found.label, expected)


def test_what_the_search_starts_from_and_where_hits_begin(tmp_path):
    write_matched_filter(tmp_path)
    card, arrays = weights_of("detect", str(tmp_path))
    assert arrays["floor"].tolist() == [4.4]
    assert card.false_alarm_rate.startswith("S/N 10: ")
    made = candidate_card("boosted", {}, {}, {}, 0.5)["false_alarm_rate"]
    assert made == "50 false candidates per image of the validation exposures"


def test_streaks_at_the_least_snr_and_scores_at_the_threshold_count():
    assert found_above([one_set()], [SCORE], 1.0, 8.0) == (2, 2, 2.0)
    assert found_above([one_set()] * 2, [SCORE] * 2, 3.0, 8.0) == (2, 4, 1.0)
    assert found_above([], [], 0.0, 7.0) == (0, 0, 0.0)


def test_a_threshold_is_no_lower_than_any_score_and_0():
    assert threshold_at([one_set()], [SCORE], 3.0) == -1.0
    assert threshold_at([one_set()], [SCORE + 2], 3.0) == 0.0


def test_a_report_counts_at_half_and_at_one_false_with_four_digits():
    score = SCORE + 1 / 3
    figures = report_candidates(([one_set()], [score]), ([one_set()] * 3, [score, score - 3, score]))
    assert figures["exposures"] == 3
    half, row = figures["at_0.5_false"], figures["at_1_false"]
    assert half["threshold"] == round(float(np.nextafter(score[2], 9)), 4) == 3.3333
    assert row["threshold"] == 2.3333
    assert half["false_per_image"] == 0
    assert row["false_per_image"] == pytest.approx(2 / 3)
    assert (row["snr_7"]["found"], row["snr_7"]["present"], row["snr_7"]["completeness"]) == (2, 6, 0.3333)
    assert (row["snr_10"]["found"], row["snr_10"]["present"], row["snr_10"]["completeness"]) == (2, 3, 0.6667)
    low, high = binomial_interval(2, 3)
    assert half["snr_10"]["interval"] == [round(low, 4), round(high, 4)]
    assert half["snr_10"]["completeness"] == 0.6667
