from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from flows.results.evaluation.evaluate import Detections, Image, Truth, evaluate, wrapped


def truth_of(*rows):
    """Rows of kind, x, y, snr, length, angle, visible."""
    kind, *numbers = zip(*rows, strict=True) if rows else ((),) * 7
    x, y, snr, length, angle, visible = (np.array(values, float) for values in numbers)
    same, unknown = np.zeros(len(x), np.int64), np.full(len(x), np.nan)
    return Truth(np.array(kind, str), same, same, x, y, snr, length, angle, visible, unknown, unknown)


def detections_of(*rows):
    """Rows of x, y, score, snr, length, angle."""
    columns = zip(*rows, strict=True) if rows else ((),) * 6
    return Detections(*(np.array(values, float) for values in columns))


TRUTH = truth_of(
    ("point", 10, 10, 30, 0, 0, 1),
    ("streak", 50, 50, 12, 20, 178, 1),
    ("streak", 90, 20, 8, 0, 0, 1),
    ("streak", 20, 90, 9, 4, 10, 0.3),
    ("satellite", 60, 120, 90, 60, 0, 1),
)
DETECTIONS = detections_of(
    (52, 51, 0.8, 11, 17, 3),  # the first streak, angle 5 deg off through 180
    (10, 11, 0.9, 30, 0, 0),  # the point
    (20, 90, 0.6, 9, 4, 9),  # the hidden streak
    (80, 121, 0.5, 40, 30, 0),  # the satellite, twice
    (45, 119, 0.5, 40, 30, 0),
    (120, 60, 0.3, 5, 2, 40),  # nothing
)


def test_by_hand():
    found = evaluate([Image(DETECTIONS, TRUTH)])
    assert found.images == 1
    assert found.snr.tolist() == [12, 8]
    assert found.found.tolist() == [True, False]
    assert found.score.tolist() == [0.8, -np.inf]
    assert (found.dx[0], found.dy[0], found.length_error[0], found.angle_error[0]) == (2, 1, -3, 5)
    assert np.isnan([found.dx[1], found.dy[1], found.length_error[1], found.angle_error[1]]).all()
    assert found.false_score.tolist() == [0.3]
    assert found.false_snr.tolist() == [5]
    assert found.uncounted == 4
    assert found.false_per_image == 1.0
    assert found.purity == 0.5


def test_every_detection_is_counted_once():
    found = evaluate([Image(DETECTIONS, TRUTH)] * 3)
    assert found.found.sum() + len(found.false_score) + found.uncounted == 3 * len(DETECTIONS.x)


def test_images_without_detections_or_truth_count():
    nothing = detections_of()
    found = evaluate(
        [Image(DETECTIONS, TRUTH), Image(nothing, TRUTH), Image(DETECTIONS, truth_of()), Image(nothing, truth_of())]
    )
    assert found.images == 4
    assert found.snr.tolist() == [12, 8, 12, 8]
    assert found.found.tolist() == [True, False, False, False]
    assert found.false_per_image == 7 / 4


def test_no_images():
    found = evaluate([])
    assert (found.images, found.false_per_image, found.purity) == (0, 0.0, None)
    assert len(found.snr) == 0


def test_truth_of_one_image_does_not_match_another():
    elsewhere = truth_of(("streak", 200, 200, 9, 0, 0, 1))
    found = evaluate([Image(detections_of((200, 200, 1, 9, 0, 0)), TRUTH), Image(detections_of(), elsewhere)])
    assert not found.found.any()


def test_oracle_of_the_streaks_that_count():
    oracle = np.array([np.nan, 11.5, 7.5, 2.0, np.nan])
    found = evaluate([Image(DETECTIONS, TRUTH, oracle, 100.0), Image(DETECTIONS, TRUTH, oracle, 300.0)])
    assert found.oracle_snr.tolist() == [11.5, 7.5, 11.5, 7.5]
    assert found.oracle_area_px == 200.0


def test_a_search_without_measurement():
    found = evaluate([Image(Detections.of(DETECTIONS.x, DETECTIONS.y, DETECTIONS.score), TRUTH)])
    assert found.found.tolist() == [True, False]
    assert np.isnan(found.length_error).all()


@pytest.mark.parametrize(("angle", "same"), [(0, 0), (89, 89), (90, -90), (-175, 5), (179, -1), (-91, 89)])
def test_directions_are_modulo_180(angle, same):
    assert wrapped(np.array([float(angle)]))[0] == same


def test_purity_and_rate_are_shares_of_all_that_count():
    found = evaluate([Image(DETECTIONS, TRUTH)] * 3 + [Image(detections_of((120, 60, 0.3, 5, 2, 40)), truth_of())])
    assert found.false_per_image == 1.0
    assert found.purity == 3 / 7
    assert found.uncounted == 12
    assert evaluate([Image(detections_of(), TRUTH)]).purity is None
    assert evaluate([Image(detections_of((120, 60, 0.3, 5, 2, 40)), truth_of())]).purity == 0.0
    assert evaluate([Image(DETECTIONS, TRUTH)]).oracle_snr.shape == (2,)
    assert np.isnan(evaluate([Image(DETECTIONS, TRUTH)]).oracle_area_px)


def test_truth_is_that_of_an_image_by_visit_and_detector():
    rows = truth_of(*[("streak", n, 0, 9, 0, 0, 1) for n in range(4)])
    both = Truth(**{**vars(rows), "visit": np.array([1, 1, 2, 2]), "detector": np.array([3, 4, 3, 4])})
    assert both.on(1, 4).x.tolist() == [1]
    assert both.on(2, 3).x.tolist() == [2]
    assert both.on(3, 3).x.tolist() == []
    assert both.images == {(1, 3), (1, 4), (2, 3), (2, 4)}


def test_a_satellite_without_its_class_is_false():
    classed = np.zeros(6, bool)
    classed[3] = True
    found = evaluate([Image(replace(DETECTIONS, classed=classed), TRUTH)])
    assert found.rows == {"streak": 1, "other": 2, "satellite": 1, "satellite_unclassed": 1, "artefact": 1}
    assert sorted(found.false_score) == [0.3, 0.5]
    assert found.uncounted == 3
    assert evaluate([Image(DETECTIONS, TRUTH)]).rows["satellite_unclassed"] == 0  # not known


def test_the_order_of_the_truth_does_not_matter():
    rows = [("point", 10, 10, 30, 0, 0, 1), ("streak", 50, 50, 12, 20, 178, 1), ("streak", 90, 20, 8, 0, 0, 1)]
    for order in permutations(rows):
        found = evaluate([Image(DETECTIONS, truth_of(*order))])
        assert dict(zip(found.snr, found.score, strict=True)) == {12: 0.8, 8: -np.inf}
        assert sorted(found.false_score) == [0.3, 0.5, 0.5, 0.6]
