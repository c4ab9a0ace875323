import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.trails.candidates import (
    Candidate,
    _is_no_chance,
    _turned,
    absorb,
    find_glint_trails,
    join_glints,
    unite,
)
from kernels.trails.geometry import DetectedSegment

FWHM = 2.3


def candidate(x, y, length, angle, snr, logits=(1.0,)):
    return Candidate(DetectedSegment(x, y, length, angle, snr), logits)


def test_same_source_found_twice_is_one_with_all_hits():
    (one,) = unite(
        [candidate(50.0, 50.0, 0.0, 0.0, 9.0, (3.0,)), candidate(50.8, 50.3, 0.0, 0.0, 10.0, (1.0, 2.0))], FWHM
    )
    assert one.trail.snr == 10
    assert sorted(one.logits) == [1, 2, 3]


def test_neighbours_stay_apart():
    for other in (candidate(60.0, 50.0, 0.0, 0.0, 9.0), candidate(50.0, 50.0, 40.0, 90.0, 9.0)):
        assert len(unite([candidate(50.0, 50.0, 40.0 if other.trail.length else 0.0, 0.0, 10.0), other], FWHM)) == 2
    parallel = [candidate(50.0, 50.0, 60.0, 0.0, 10.0), candidate(50.0, 60.0, 60.0, 0.0, 10.0)]
    assert len(unite(parallel, FWHM)) == 2


def test_blinking_trail_is_one():
    theta = math.radians(30)
    dashes = [
        candidate(
            200 + k * 60 * math.cos(theta), 200 + k * 60 * math.sin(theta), 35.0, 30.0 + 0.3 * (-1) ** k, 20.0 + k
        )
        for k in range(4)
    ]
    (one,) = unite(dashes, FWHM)
    assert one.trail.length == pytest.approx(3 * 60 + 35, abs=2)
    assert len(one.logits) == 4


def test_pieces_far_apart_are_two():
    assert len(unite([candidate(50.0, 50.0, 20.0, 0.0, 9.0), candidate(150.0, 50.0, 20.0, 0.0, 9.0)], FWHM)) == 2


def test_flashes_in_line_are_one_but_for_those_in_doubt():
    flashes = [candidate(300.0 + 200 * k, 500.0, 20.0, 0.0, 30.0, (float(k),)) for k in range(5)]
    (one,) = join_glints(flashes, [False] * 5, FWHM, 1e7)
    assert one.flashes
    assert sorted(one.logits) == [0, 1, 2, 3, 4]
    assert one.trail.length == pytest.approx(820)
    assert join_glints(flashes, [True, True, True, False, False], FWHM, 1e7) == flashes


def test_what_a_trail_of_flashes_is_united_with_is_one_too():
    line = candidate(500.0, 500.0, 800.0, 0.0, 60.0)._replace(flashes=True)
    (one,) = unite([line, candidate(400.0, 500.5, 10.0, 0.0, 9.0)], FWHM)
    assert one.flashes
    assert len(one.logits) == 2


def test_a_trail_that_crosses_a_line_of_flashes_is_another():
    line, crossing = candidate(500.0, 500.0, 3000.0, 0.0, 1000.0), candidate(400.0, 503.0, 15.0, 30.0, 35.0)
    assert len(unite([line._replace(flashes=True), crossing], FWHM)) == 2
    assert len(unite([line, crossing], FWHM)) == 1  # wings of a trail as bright


def test_a_satellite_absorbs_what_lies_in_its_light():
    line = candidate(500.0, 500.0, 800.0, 0.0, 500.0)
    inside, crossing, beside = (
        candidate(400.0, 506.0, 5.0, 0.0, 9.0, (7.0,)),
        candidate(450.0, 500.0, 60.0, 80.0, 9.0),
        candidate(400.0, 530.0, 5.0, 0.0, 9.0),
    )
    whole, rest = absorb(line, 8.0, [inside, crossing, beside], FWHM)
    assert rest == [crossing, beside]
    assert whole.logits == (1.0, 7.0)


pieces = st.builds(
    candidate,
    st.floats(0, 200),
    st.floats(0, 200),
    st.sampled_from([0.0, 5.0, 20.0, 60.0]),
    st.floats(0, 179),
    st.floats(5, 50),
    st.tuples(st.floats(-1, 5)),
)


@settings(max_examples=50)
@given(st.lists(pieces, max_size=12), st.randoms(use_true_random=False))
def test_no_hit_is_lost_and_order_does_not_matter(candidates, random):
    united = unite(candidates, FWHM)
    assert sorted(value for each in united for value in each.logits) == sorted(
        value for each in candidates for value in each.logits
    )
    again = unite(random.sample(candidates, len(candidates)), FWHM)
    assert [each.trail for each in again] == [each.trail for each in united]


FWHM_OF_GLINT_TRAIL, SIDE = 2.3, 3072
AREA = SIDE**2


def flashes(count, period, length, angle=30.0, x=1500.0, y=1500.0, jitter=0.3, seed=0):
    rng = np.random.default_rng(seed)
    theta = math.radians(angle)
    return [
        DetectedSegment(
            x + (k - count / 2) * period * math.cos(theta) + rng.normal(0, jitter),
            y + (k - count / 2) * period * math.sin(theta) + rng.normal(0, jitter),
            length,
            (angle + (rng.normal(0, 1) if length > 5 else rng.uniform(0, 180))) % 180,
            30.0,
        )
        for k in range(count)
    ]


def crowd(count, seed, lengths=(0.0, 40.0)):
    rng = np.random.default_rng(seed)
    return [
        DetectedSegment(
            *rng.uniform(0, SIDE, 2).tolist(), float(rng.uniform(*lengths)), float(rng.uniform(0, 180)), 20.0
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 141.0])
@pytest.mark.parametrize(("period", "length"), [(60.0, 20.0), (100.0, 8.0), (400.0, 20.0), (270.0, 24.0)])
def test_flashes_with_a_direction(period, length, angle):
    members = flashes(6, period, length, angle)
    others = crowd(60, 4)
    (found,) = find_glint_trails(others + members, FWHM_OF_GLINT_TRAIL, AREA)
    assert set(range(60, 66)) <= set(found.members)
    assert found.segment.length == pytest.approx(5 * period + length, abs=6)
    assert abs((found.segment.angle - angle + 90) % 180 - 90) < 0.5


@pytest.mark.parametrize("period", [40.0, 150.0, 400.0])
def test_points_at_equal_steps(period):
    (found,) = find_glint_trails(crowd(40, 5, (0, 2)) + flashes(6, period, 0.0), FWHM_OF_GLINT_TRAIL, AREA)
    assert set(range(40, 46)) <= set(found.members)


def test_three_points_in_line_are_nothing():
    assert find_glint_trails(flashes(3, 150.0, 0.0, jitter=0.0) + crowd(60, 6, (0, 2)), FWHM_OF_GLINT_TRAIL, AREA) == []


def test_points_between_the_flashes_belong_to_them():
    members = flashes(5, 200.0, 20.0)
    between = DetectedSegment((members[1].x + members[2].x) / 2, (members[1].y + members[2].y) / 2, 0.0, 0.0, 9.0)
    (found,) = find_glint_trails([*members, between], FWHM_OF_GLINT_TRAIL, AREA)
    assert sorted(found.members) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("steps", "belongs"), [(1.0, True), (2.0, False), (-1.0, True), (-2.0, False)])
def test_one_more_flash_may_follow_at_either_end(steps, belongs):
    members = flashes(5, 200.0, 20.0, jitter=0.0)
    last, before = (members[-1], members[-2]) if steps > 0 else (members[0], members[1])
    ahead = abs(steps)
    point = DetectedSegment(last.x + ahead * (last.x - before.x), last.y + ahead * (last.y - before.y), 0.0, 0.0, 9.0)
    (found,) = find_glint_trails([*members, point], FWHM_OF_GLINT_TRAIL, AREA)
    assert (5 in found.members) == belongs


def test_a_dash_in_line_with_a_long_trail():
    long, dash = (
        DetectedSegment(1000, 1000, 900, 20, 200),
        DetectedSegment(1000 + 800 * 0.9397, 1000 + 800 * 0.342, 25, 20, 15),
    )
    (found,) = find_glint_trails([long, dash], FWHM_OF_GLINT_TRAIL, AREA)
    assert sorted(found.members) == [0, 1]


def test_one_trail_in_pieces_is_no_row_of_flashes():
    assert find_glint_trails(flashes(4, 42.0, 40.0), FWHM_OF_GLINT_TRAIL, AREA) == []


def test_parallel_trails_are_not_in_line():
    parallel = [DetectedSegment(300.0 + 3 * k, 300.0 + 60 * k, 25.0, 10.0, 20.0) for k in range(8)]
    assert find_glint_trails(parallel, FWHM_OF_GLINT_TRAIL, AREA) == []


def test_asteroids_of_one_family_move_alike_and_are_hardly_ever_in_line():
    found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        trails = [one._replace(angle=float(20 + rng.normal(0, 8))) for one in crowd(12, seed, (8.0, 25.0))]
        found += len(find_glint_trails(trails, FWHM_OF_GLINT_TRAIL, AREA))
    assert found <= 1


def test_chance_makes_hardly_any():
    assert sum(len(find_glint_trails(crowd(90, seed), FWHM_OF_GLINT_TRAIL, AREA)) for seed in range(60)) <= 1


def test_nothing_gives_nothing():
    assert find_glint_trails([], FWHM_OF_GLINT_TRAIL, AREA) == []
    assert find_glint_trails(crowd(1, 0), FWHM_OF_GLINT_TRAIL, AREA) == []


def beside(along, across, length, turn):
    """Return a piece beside a line through (1500, 1500) at 34 degrees, off its direction by ``turn`` degrees."""
    cosine, sine = math.cos(math.radians(34.0)), math.sin(math.radians(34.0))
    x, y = 1500 + along * cosine - across * sine, 1500 + along * sine + across * cosine
    return DetectedSegment(x, y, length, 34.0 + turn, 50.0)


PIECES = st.builds(beside, st.floats(-1500, 1500), st.floats(-20, 20), st.floats(6, 2800), st.floats(-2, 2))


@given(st.lists(PIECES, min_size=2, max_size=6))
@example([beside(0.0, 0.0, 2744.0, 0.0), beside(-1240.0, -18.0, 136.0, 0.1)])
def test_pieces_along_a_satellite_are_judged_however_they_lie(pieces):
    """The line through a long trail and a piece beside its end may lie on neither."""
    members = [i for one in find_glint_trails(pieces, FWHM, AREA) for i in one.members]
    assert len(members) == len(set(members))


@pytest.mark.parametrize(("apart", "count"), [(0.0, 0), (9.9, 0), (10.1, 1)])
def test_a_piece_that_two_groups_of_hits_saw_is_one_of_the_line(apart, count):
    flashes = pieces((0.0, 20.0), (apart, 16.0), (200.0, 20.0))
    assert len(find_glint_trails(flashes, 2.0, 4000.0**2)) == count


def test_a_line_takes_both_of_a_piece_that_was_seen_twice():
    """So that none is left for another line."""
    flashes = [*pieces((0.0, 20.0), (100.0, 20.0), (200.0, 20.0)), *pieces((3.0, 19.0), (102.0, 19.0), (201.0, 19.0))]
    (found,) = find_glint_trails(flashes, 2.0, 4000.0**2)
    assert sorted(found.members) == list(range(6))


def test_a_flood_is_bounded():
    assert len(find_glint_trails(crowd(3000, 1, (0, 2)), FWHM_OF_GLINT_TRAIL, AREA)) <= 2


def pieces(*rows):
    """Segments (middle, length) along a line through (1000, 2000) at 30 deg, px."""
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    return [DetectedSegment(1000 + at * c, 2000 + at * s, length, 30.0, 10.0) for at, length in rows]


def united(*trails, fwhm=2.0):
    return unite([Candidate(trail, (1.0,)) for trail in trails], fwhm)


@pytest.mark.parametrize(
    ("second", "count"),
    [
        ((60.0, 20.0), 1),  # a gap as long as both pieces, 40 px
        ((60.1, 20.0), 2),
        ((45.0, 10.0), 1),  # 5 FWHM are a piece
        ((45.0, 9.9), 2),
        ((-60.0, 20.0), 1),
        ((-60.1, 20.0), 2),
    ],
)
def test_pieces_in_line_are_one_trail_up_to_a_gap_as_long_as_both(second, count):
    first = (0.0, 20.0)
    for order in ((first, second), (second, first)):
        found = united(*(DetectedSegment(at, 7.0, length, 0.0, 10.0) for at, length in order))
        assert len(found) == count
    if count == 1:
        assert found[0].trail.length == pytest.approx(abs(second[0]) + (20 + second[1]) / 2)
        assert found[0].trail.snr == pytest.approx(math.sqrt(200))


@pytest.mark.parametrize("side", [1, -1])
def test_pieces_beside_each_other_are_one_up_to_1_2_fwhm_and_a_fiftieth_of_their_distance(side):
    first = DetectedSegment(100.0, 100.0, 30.0, 0.0, 10.0)
    for offset, count in ((3.59, 1), (3.62, 2)):  # 2.4 px, and a fiftieth of 60 px
        assert len(united(first, first._replace(x=160.0, y=100 + side * offset, snr=9.0))) == count


@pytest.mark.parametrize("flashes", [(False, False), (True, False), (False, True)])
def test_what_is_united_flashes_if_one_of_both_does(flashes):
    (first, second) = pieces((0.0, 20.0), (40.0, 20.0))
    (found,) = unite([Candidate(first, (1.0,), flashes[0]), Candidate(second, (2.0, 3.0), flashes[1])], 2.0)
    assert found.flashes == any(flashes)
    assert not Candidate(first, (1.0,)).flashes
    assert sorted(found.logits) == [1, 2, 3]


def test_what_outshines_the_spike_of_a_star_is_no_part_of_it():
    spike, bright = candidate(500.0, 500.0, 400.0, 0.0, 20.0, (2.0,)), candidate(450.0, 501.0, 3.0, 0.0, 12.0, (9.0,))
    faint = bright._replace(trail=bright.trail._replace(x=600.0, snr=4.0))
    assert unite([spike, bright, faint], FWHM) == [spike._replace(logits=(2.0, 9.0)), bright]
    assert absorb(spike, 8.0, [bright, faint], FWHM) == (spike._replace(logits=(2.0, 9.0)), [bright])


@pytest.mark.parametrize(("start", "taken"), [(98.0, True), (99.0, False), (-7.0, True), (-8.0, False)])
def test_what_lies_to_four_fifths_in_the_light_of_a_satellite_is_part_of_it(start, taken):
    satellite = candidate(50.0, 20.0, 100.0, 0.0, 90.0, (5.0,))
    other = candidate(start + 4.5, 20.0, 9.0, 0.0, 8.0, (1.0, 2.0))  # 8 of its 10 points, or 7, within 5 px
    found, rest = absorb(satellite, 5.01, [other, candidate(50.0, 90.0, 0.0, 0.0, 9.0)], FWHM)
    assert found.logits == ((5.0, 1.0, 2.0) if taken else (5.0,))
    assert len(rest) == (1 if taken else 2)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (((0, 10.0), (100, 10.0), (260, 40.0)), True),  # one piece four times as long as another
        (((0, 10.0), (100, 10.0), (260, 40.1)), False),
        (((0, 4.0), (100, 4.0), (260, 4.0)), True),  # 2 FWHM have a direction
        (((0, 3.99), (100, 3.99), (260, 3.99)), False),
        (((0, 100.0), (564, 30.0)), True),  # 499 px apart
        (((0, 100.0), (566, 30.0)), False),
        (((0, 99.9), (400, 30.0)), False),
        (((0, 100.0), (400, 30.0)), True),
        (((0, 30.0), (45.5, 30.0), (91, 30.0)), True),  # a quarter of it dark
        (((0, 30.0), (44.5, 30.0), (89, 30.0)), False),
        (((0, 10.0), (100, 10.0)), False),
    ],
)
def test_limits_of_flashes_in_line(rows, found):
    trails = pieces(*rows)
    glints = find_glint_trails(trails, 2.0, 4000.0**2)
    assert [sorted(glint.members) for glint in glints] == ([list(range(len(rows)))] if found else [])
    if found:
        ends = [at + sign * length / 2 for at, length in rows for sign in (-1, 1)]
        assert glints[0].segment.length == pytest.approx(max(ends) - min(ends), abs=0.01)
        assert glints[0].segment.snr == pytest.approx(10 * math.sqrt(len(rows)))


@pytest.mark.parametrize(("turn", "found"), [(6.6, True), (-6.6, True), (6.9, False), (-6.9, False)])
def test_flashes_point_along_their_line_to_a_degree_and_half_a_fwhm(turn, found):
    trails = pieces((0, 10.0), (100, 10.0), (260, 10.0))  # half a FWHM over 10 px are 5.7 deg
    trails[1] = trails[1]._replace(angle=30 + turn)
    assert len(find_glint_trails(trails, 2.0, 4000.0**2)) == found


@pytest.mark.parametrize("side", [1, -1])
def test_flashes_lie_within_three_quarters_of_a_fwhm_of_their_line(side):
    for offset, found in ((1.58, True), (1.62, False)):  # 1.5 px, and a hundredth of its length
        trails = pieces((0, 10.0), (100, 10.0), (200, 10.0))
        trails = [one._replace(x=1000 + at, y=2000.0, angle=0.0) for one, at in zip(trails, (0, 100, 200), strict=True)]
        trails[1] = trails[1]._replace(y=2000 + side * offset)
        assert any(len(one.members) == 3 for one in find_glint_trails(trails, 2.0, 4000.0**2)) == found


def test_two_pieces_are_enough_where_one_is_long():
    trails = pieces((0, 100.0), (300, 30.0))
    (found,) = find_glint_trails(trails, 2.0, 4000.0**2)
    assert sorted(found.members) == [0, 1]
    assert find_glint_trails(trails[:1], 2.0, 4000.0**2) == []


@pytest.mark.parametrize(
    ("allowed", "length", "area", "chosen", "most"),
    [
        (9.0, 1000.0, 1e6, 3, 18),  # n^2 / 2 pairs, a tenth of them each in line, n / 10 more in a strip of 0.003
        (9.0, 10.0, 1e6, 3, 18),
        (9.0, 2000.0, 1e6, 3, 14),
        (9.0, 1000.0, 1e6, 4, 68),
        (180.0, 1.0, 1e8, 3, 4),  # any direction will do
    ],
)
def test_sets_of_flashes_that_chance_would_give_once_in_a_hundred_images_are_none(allowed, length, area, chosen, most):
    line, ours = DetectedSegment(0.0, 0.0, length, 0.0, 9.0), np.full(chosen, allowed)
    assert _is_no_chance(ours, most, line, 2.0, area)
    assert not _is_no_chance(ours, most + 1, line, 2.0, area)
    assert _is_no_chance(ours[:2], 900, line, 2.0, area)


def test_flashes_are_told_by_their_brightness_among_many_faint_pieces():
    """Three equal flashes of a tumbling satellite, and noise that lies anywhere."""
    rng = np.random.default_rng(2)
    flashes = [DetectedSegment(x, 3000.0 - 1.13 * x, 31.0, 131.5, 70.0) for x in (291.0, 215.0, 140.0)]
    noise = [
        DetectedSegment(*rng.uniform(0, 3000, 2), rng.uniform(10, 40), rng.uniform(0, 180), rng.uniform(5, 12))
        for _ in range(300)
    ]
    found = find_glint_trails([*noise, *flashes], 2.3, 3000.0**2)
    assert [sorted(one.members) for one in found] == [[300, 301, 302]]
    faint = [one._replace(snr=6.0) for one in flashes]
    assert find_glint_trails([*noise, *faint], 2.3, 3000.0**2) == []


def in_row(*places):
    return [DetectedSegment(500.0 + 0.6 * at, 500.0 + 0.8 * at, 0.0, 0.0, 9.0) for at in places]


@pytest.mark.parametrize(
    ("places", "area", "found"),
    [
        ((0, 15.01, 30.02), 1e7, True),  # px from one flash to the next
        ((0, 14.99, 29.98), 1e7, False),
        ((0, 449.9, 899.8), 1e7, True),
        ((0, 450.1, 900.2), 1e7, False),
        ((0, 100, 201.99), 1e7, True),
        ((0, 100, 202.01), 1e7, False),
        ((0, 100, 200), 113_200.0, True),  # 3 pairs, and each of 3 points in 4 pi px of the image by chance
        ((0, 100, 200), 113_000.0, False),
        ((0, 100, 200, 300), 113_000.0, True),
        ((0, 100, 200, 300), 3900.0, True),
        ((0, 100, 200, 300), 3880.0, False),
        ((0, 100), 1e7, False),
    ],
)
def test_limits_of_points_in_a_row(places, area, found):
    for points in (in_row(*places), in_row(*places)[::-1]):
        glints = find_glint_trails(points, 2.0, area)
        assert [sorted(one.members) for one in glints] == ([list(range(len(places)))] if found else [])


@pytest.mark.parametrize(
    ("at", "beside", "belongs"),
    [
        (312.9, 0.0, True),  # 1.2 times the mean gap of 90 px beyond the end
        (313.1, 0.0, False),
        (-112.9, 0.0, True),
        (-113.1, 0.0, False),
        (150.0, 1.49, True),
        (150.0, -1.49, True),
        (150.0, 1.51, False),
        (150.0, -1.51, False),
    ],
)
def test_limits_of_a_point_among_flashes(at, beside, belongs):
    trails = [DetectedSegment(300.0 + each, 400.0, 10.0, 0.0, 9.0) for each in (0, 100, 200)]
    trails.append(DetectedSegment(300.0 + at, 400.0 + beside, 0.0, 0.0, 9.0))
    (found,) = find_glint_trails(trails, 2.0, 4000.0**2)
    assert (3 in found.members) == belongs


def test_directions_turn_by_90_degrees_at_most():
    for angle, other, turn in (
        (0.0, 179.0, 1.0),
        (179.0, 1.0, 2.0),
        (-89.0, 89.0, 2.0),
        (20.0, 110.0, 90.0),
        (9.0, 5.0, 4.0),
    ):
        for half in (0.0, 180.0, -180.0):
            assert _turned(np.array([angle]), other + half) == pytest.approx(turn)
            assert _turned(np.array([other]), angle + half) == pytest.approx(turn)
