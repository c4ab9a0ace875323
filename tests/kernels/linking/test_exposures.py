import numpy as np
import pytest

from kernels.linking.detections import detections_at
from kernels.linking.exposures import SkyEpoch, combs_of, epoch_numbers, epochs_of, seen_often, split_nights
from kernels.linking.tracklets import find_tracklets
from kernels.sky.positions import unit_vectors


def at(mjd):
    """Detections at these times, anywhere in a few degrees."""
    rng, number = np.random.default_rng(1), len(mjd)
    return detections_at(
        rng.uniform(10, 13, number), rng.uniform(0, 3, number), np.asarray(mjd, float), np.full(number, 0.2)
    )


def exposures(mjd):
    """Rows of the exposures of a night."""
    return [one.rows.tolist() for one in epochs_of(at(mjd), np.arange(len(mjd)))]


def fields(number, rows, ra=10.0, radius=3600.0):
    """Exposures of one field that have so many detections each."""
    (centre,) = unit_vectors(np.array([ra]), np.array([0.0]))
    one = SkyEpoch(np.arange(rows), None, None, 0.0, 0.0, 0.2, None, centre, radius, None, None)
    return [one._replace(mjd=float(n)) for n in range(number)]


def test_nights_are_six_hours_apart_and_have_two_detections_at_least():
    mjd = np.array([10.0, 10.25, 10.51, 10.6, 11.0, 12.0, 12.1])
    assert [one.tolist() for one in split_nights(mjd, np.ones(7, bool))] == [[0, 1], [2, 3], [5, 6]]


def test_nights_are_of_what_is_usable_and_by_time():
    mjd, usable = np.array([10.2, 10.1, 10.0, 10.15]), np.array([True, True, True, False])
    assert [one.tolist() for one in split_nights(mjd, usable)] == [[2, 1, 0]]
    assert split_nights(mjd, np.zeros(4, bool)) == []


def test_detections_up_to_a_second_apart_are_of_one_exposure():
    second = 1 / 86400
    assert exposures([0.0, 0.5 * second, 0.01, 0.01 + 2 * second]) == [[0, 1], [2], [3]]
    assert exposures([0.0, second]) == [[0, 1]]


@pytest.mark.parametrize(
    ("exposed", "detections", "parts"),
    [
        (40, 40, 40),
        (41, 80, 41),  # two each, or nearly
        (41, 82, 41),
        (3000, 3000, 24),  # each has its own time: equal parts of the night
    ],
)
def test_rows_with_times_of_their_own_are_put_together_where_there_are_many(exposed, detections, parts):
    mjd = np.sort(np.concatenate([np.arange(exposed), np.arange(detections - exposed)])) * min(0.004, 0.3 / exposed)
    found = exposures(mjd)
    assert len(found) == parts
    assert [row for one in found for row in one] == list(range(detections))


@pytest.mark.parametrize(("exposed", "detections"), [(41, 41), (41, 79), (60, 60)])
def test_in_a_part_of_a_night_nothing_is_seen_twice(exposed, detections):
    mjd = np.sort(np.concatenate([np.arange(exposed), np.arange(detections - exposed)])) * 0.004
    rows, found = at(mjd), exposures(mjd)
    assert [row for one in found for row in one] == list(range(detections))
    assert len(found) < exposed
    for one in found:
        apart = np.linalg.norm(rows.vectors[one][:, None] - rows.vectors[one], axis=2)
        days = np.abs(mjd[one][:, None] - mjd[one])
        assert ((apart > np.radians(69) * days) | (days == 0)).all()


def test_movers_of_fields_that_are_seen_one_after_the_other_are_linked_with_one_detection_a_visit():
    field, visit = np.arange(14).repeat(4), np.tile(np.arange(4), 14)
    hours = field * 0.5 + visit * 0.1
    ra, dec = 50 + 6.0 * field + 0.01 * hours, 5 + 0.003 * hours
    tracklets = find_tracklets(detections_at(ra, dec, 60000 + hours / 24, np.full(56, 0.2)), np.ones(56, bool))
    assert [one.members for one in tracklets] == [tuple(range(n, n + 4)) for n in range(0, 56, 4)]


def test_parts_of_a_night_are_all_tried_where_they_hold_little():
    parts = [one._replace(days=0.01) for one in fields(50, 28)]
    assert not seen_often(parts).any()
    assert seen_often([one._replace(days=0.01) for one in fields(50, 30)]).all()


def test_each_detection_has_the_number_of_its_exposure():
    detections = at([0.0, 0.0, 0.1, 0.1, 0.2])
    epochs = epochs_of(detections, np.array([0, 1, 3, 4]))
    assert epoch_numbers(detections, epochs).tolist() == [0, 0, -1, 1, 2]


def test_an_exposure_knows_where_it_is_and_how_dense():
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(10, 12, 2000), rng.uniform(-1, 1, 2000)
    (epoch,) = epochs_of(detections_at(ra, dec, np.full(2000, 60000.0), np.full(2000, 0.2)), np.arange(2000))
    assert np.median(epoch.density) == pytest.approx(500, rel=0.1)  # of 2000 in 4 deg2
    assert epoch.radius == pytest.approx(3600 * np.sqrt(2), rel=0.05)
    outside = unit_vectors(np.array([11.0, 21.0]), np.array([0.0, 0.0]))
    assert epoch.away(outside)[0] < 0 < epoch.away(outside)[1]
    assert (epoch.away(epoch.vectors) <= 1e-3).all()
    (alone,) = epochs_of(detections_at(ra[:1], dec[:1], np.array([60000.0]), np.array([0.2])), np.array([0]))
    assert alone.density == pytest.approx([np.radians(1) ** 2 / (4 * np.pi)])


@pytest.mark.parametrize("group", [3, 4, 6, 9])
def test_a_small_group_is_as_dense_as_it_is(group):
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(10, 16, 360), rng.uniform(-3, 3, 360)
    ra[:group], dec[:group] = 13 + rng.uniform(-0.01, 0.01, group), rng.uniform(-0.01, 0.01, group)
    (epoch,) = epochs_of(detections_at(ra, dec, np.full(360, 60000.0), np.full(360, 0.2)), np.arange(360))
    assert (epoch.density[:group] > 0.2 * group / 0.02**2).all()
    assert np.median(epoch.density) == pytest.approx(10, rel=0.15)
    assert (epoch.density[group:] > 200).mean() < 0.01


@pytest.mark.parametrize(
    ("visits", "rows", "often"),
    [
        (8, 4000, False),  # few visits are all tried
        (9, 261, False),  # work of 5.0e7
        (9, 262, True),
        (27, 10, False),  # 50 rows at least count
        (28, 10, True),
    ],
)
def test_fields_are_seen_often_where_all_pairs_are_too_much_work(visits, rows, often):
    elsewhere = fields(2, rows, ra=40.0)
    assert seen_often([*fields(visits, rows), *elsewhere]).tolist() == [often] * visits + [False, False]


def test_a_field_is_one_whose_centre_is_within_three_quarters_of_the_radius():
    near = [*fields(20, 300), *fields(20, 300, ra=10.7)]
    assert seen_often(near).all()
    (left,) = {len(comb) for comb, _ in list(combs_of(near, np.arange(40) == 0))}
    assert left == 1
    numbers = [{int(one.centre[1] > 0.18) for one in comb} for comb, _ in combs_of(near, np.ones(40, bool))]
    assert {0, 1} in numbers
    apart = [*fields(20, 300), *fields(20, 300, ra=10.8)]
    assert all(len({tuple(one.centre) for one in comb}) == 1 for comb, _ in combs_of(apart, np.ones(40, bool)))


@pytest.mark.parametrize(("number", "distances"), [(1, [1]), (2, [1]), (8, [1]), (9, [1, 4]), (32, [1, 4]),
                                                   (33, [1, 4, 16]), (40, [1, 4, 16])])  # fmt: skip
def test_each_exposure_is_tried_with_the_next_and_with_some_further_away(number, distances):
    epochs = fields(number, 10)
    seen = {}
    for comb, far in combs_of(epochs, np.ones(number, bool)):
        steps = set(np.diff([one.mjd for one in comb]).astype(int).tolist())
        assert len(comb) <= 6
        assert len(steps) <= 1
        if steps:
            assert far == (steps != {1})
            seen.setdefault(steps.pop(), []).extend(one.mjd for one in comb)
    if number > 1:
        assert sorted(seen) == distances
    assert all(set(times) == set(range(number)) for times in seen.values())
    assert max((times.count(n) for times in seen.values() for n in times), default=1) <= 2


def test_what_is_not_seen_often_is_in_no_comb():
    often = np.arange(12) < 3
    assert {one.mjd for comb, _ in combs_of(fields(12, 10), often) for one in comb} == {0.0, 1.0, 2.0}
    assert often.sum() == 3
