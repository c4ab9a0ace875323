import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.trails.geometry import DetectedSegment
from kernels.trails.glint_trails import (
    _dark,
    _is_no_chance,
    _is_set,
    _once,
    _Others,
    _turned,
    find_glint_trails,
)

FWHM = 2.3

SIDE = 3072
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
    (found,) = find_glint_trails(others + members, FWHM, AREA)
    assert set(range(60, 66)) <= set(found.members)
    assert found.segment.length == pytest.approx(5 * period + length, abs=6)
    assert abs((found.segment.angle - angle + 90) % 180 - 90) < 0.5


@pytest.mark.parametrize("period", [40.0, 150.0, 400.0])
def test_points_at_equal_steps(period):
    (found,) = find_glint_trails(crowd(40, 5, (0, 2)) + flashes(6, period, 0.0), FWHM, AREA)
    assert set(range(40, 46)) <= set(found.members)


@pytest.mark.parametrize(("snr", "found"), [(20.0, 0), (30.0, 1)])
def test_three_points_at_equal_steps_are_told_by_their_brightness(snr, found):
    members = [one._replace(snr=snr) for one in flashes(3, 150.0, 0.0, jitter=0.0)]
    assert len(find_glint_trails(members + crowd(60, 6, (0, 2)), FWHM, AREA)) == found


def test_three_flashes_are_told_by_their_directions_and_steps():
    """Two dashes of a satellite and a third that is cut off, among as many points as a poor subtraction leaves."""
    points = [*crowd(110, 8, (0, 2)), *crowd(40, 9, (5, 9))]
    dashes = [
        DetectedSegment(601.5, 2042.9, 7.0, 34.1, 20.0),
        DetectedSegment(694.2, 2114.4, 6.0, 31.3, 20.0),
        DetectedSegment(785.9, 2185.2, 0.0, 115.5, 20.0),
    ]
    (found,) = find_glint_trails([*points, *dashes], FWHM, AREA)
    assert sorted(found.members) == [150, 151, 152]
    across = [one._replace(angle=one.angle + 90) for one in dashes]
    uneven = [*dashes[:2], dashes[2]._replace(x=790.0)]
    unlike = [*dashes[:2], dashes[2]._replace(snr=90.0)]
    for others in (across, uneven, unlike):
        assert find_glint_trails([*points, *others], FWHM, AREA) == []


def test_points_between_the_flashes_belong_to_them():
    members = flashes(5, 200.0, 20.0)
    between = DetectedSegment((members[1].x + members[2].x) / 2, (members[1].y + members[2].y) / 2, 0.0, 0.0, 9.0)
    (found,) = find_glint_trails([*members, between], FWHM, AREA)
    assert sorted(found.members) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("steps", "belongs"), [(1.0, True), (2.0, False), (-1.0, True), (-2.0, False)])
def test_one_more_flash_may_follow_at_either_end(steps, belongs):
    members = flashes(5, 200.0, 20.0, jitter=0.0)
    last, before = (members[-1], members[-2]) if steps > 0 else (members[0], members[1])
    ahead = abs(steps)
    point = DetectedSegment(last.x + ahead * (last.x - before.x), last.y + ahead * (last.y - before.y), 0.0, 0.0, 9.0)
    (found,) = find_glint_trails([*members, point], FWHM, AREA)
    assert (5 in found.members) == belongs


def test_a_dash_in_line_with_a_long_trail():
    long, dash = (
        DetectedSegment(1000, 1000, 900, 20, 200),
        DetectedSegment(1000 + 800 * 0.9397, 1000 + 800 * 0.342, 25, 20, 15),
    )
    (found,) = find_glint_trails([long, dash], FWHM, AREA)
    assert sorted(found.members) == [0, 1]


def test_one_trail_in_pieces_is_no_row_of_flashes():
    assert find_glint_trails(flashes(4, 42.0, 40.0), FWHM, AREA) == []


def test_parallel_trails_are_not_in_line():
    parallel = [DetectedSegment(300.0 + 3 * k, 300.0 + 60 * k, 25.0, 10.0, 20.0) for k in range(8)]
    assert find_glint_trails(parallel, FWHM, AREA) == []


def test_asteroids_of_one_family_move_alike_and_are_hardly_ever_in_line():
    found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        trails = [one._replace(angle=float(20 + rng.normal(0, 8))) for one in crowd(12, seed, (8.0, 25.0))]
        found += len(find_glint_trails(trails, FWHM, AREA))
    assert found <= 1


def test_directions_that_many_share_say_little():
    """Thirty asteroids of one family on a long exposure: some are always in line."""
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        trails = [
            one._replace(angle=float(20 + rng.normal(0, 3)), snr=float(np.exp(rng.uniform(*np.log((6, 60))))))
            for one in crowd(30, seed, (8.0, 12.0))
        ]
        found += len(find_glint_trails(trails, FWHM, AREA))
    assert found <= 4


def test_chance_makes_hardly_any():
    assert sum(len(find_glint_trails(crowd(90, seed), FWHM, AREA)) for seed in range(60)) <= 1


def test_nothing_gives_nothing():
    assert find_glint_trails([], FWHM, AREA) == []
    assert find_glint_trails(crowd(1, 0), FWHM, AREA) == []


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
    flashes[2] = flashes[2]._replace(snr=13.0)  # two as bright would be enough
    assert len(find_glint_trails(flashes, 2.0, 4000.0**2)) == count


def test_a_line_takes_both_of_a_piece_that_was_seen_twice():
    """So that none is left for another line."""
    flashes = [*pieces((0.0, 20.0), (100.0, 20.0), (200.0, 20.0)), *pieces((3.0, 19.0), (102.0, 19.0), (201.0, 19.0))]
    (found,) = find_glint_trails(flashes, 2.0, 4000.0**2)
    assert sorted(found.members) == list(range(6))


def test_a_flood_is_bounded():
    assert len(find_glint_trails(crowd(3000, 1, (0, 2)), FWHM, AREA)) <= 2


def pieces(*rows):
    """Segments (middle, length) along a line through (1000, 2000) at 30 deg, px."""
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    return [DetectedSegment(1000 + at * c, 2000 + at * s, length, 30.0, 10.0) for at, length in rows]


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
        (((0, 10.0), (100, 10.0)), True),  # two alike
        (((0, 10.0), (100, 12.5)), True),
        (((0, 10.0), (100, 12.51)), False),
        (((0, 10.0), (439.9, 10.0)), True),
        (((0, 10.0), (440.1, 10.0)), False),
        (((0, 10.0), (16.7, 10.0)), True),
        (((0, 10.0), (16.6, 10.0)), False),
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
    assert any(len(one.members) == 3 for one in find_glint_trails(trails, 2.0, 4000.0**2)) == found


@pytest.mark.parametrize(("snr", "found"), [(8.0, True), (7.99, False), (12.5, True), (12.51, False)])
def test_two_flashes_are_as_bright_as_each_other(snr, found):
    one, other = pieces((0, 10.0), (100, 10.0))
    assert len(find_glint_trails([one, other._replace(snr=snr)], 2.0, 4000.0**2)) == found


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
    assert _is_no_chance(ours, line, _Others(most, 0, 2.0, area))
    assert not _is_no_chance(ours, line, _Others(most + 1, 0, 2.0, area))


@pytest.mark.parametrize(
    ("like", "most"),
    [
        (0, 12),  # n^2 / 2 pairs, a hundredth of them in line, 0.0636 of these so near, 0.194 of these as bright
        (1, 12),
        (3, 5),  # three others of n point along the line
    ],
)
def test_pairs_that_chance_would_give_once_in_a_hundred_images_are_none(like, most):
    line, ours = DetectedSegment(0.0, 0.0, 100.0, 0.0, 9.0), np.full(2, 9.0)
    assert _is_no_chance(ours, line, _Others(most, like, 2.0, 1e7))
    assert not _is_no_chance(ours, line, _Others(most + 1, like, 2.0, 1e7))


def test_flashes_are_told_by_their_brightness_among_many_faint_pieces():
    """Three flashes of a tumbling satellite at unequal steps, and noise that lies anywhere."""
    rng = np.random.default_rng(2)
    flashes = [DetectedSegment(x, 3000.0 - 1.13 * x, 31.0, 131.5, 70.0) for x in (291.0, 215.0, 120.0)]
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
        ((0, 15, 30), 1e7, True),  # px from one flash to the next
        ((0, 14.99, 29.98), 1e7, False),
        ((0, 450, 900), 1e7, True),
        ((0, 450.1, 900.2), 1e7, False),
        ((0, 100, 201.99), 1e7, True),
        ((0, 100, 202.01), 1e7, False),
        ((0, 100, 200), 169_700.0, True),  # 9 / 2 pairs, and each of 3 points in 4 pi px of the image by chance
        ((0, 100, 200), 169_600.0, False),
        ((0, 100, 200, 300), 113_000.0, True),
        ((0, 100, 200, 300), 4500.0, True),
        ((0, 100, 200, 300), 4490.0, False),
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
        (313.0, 0.0, True),  # 1.2 times the mean gap of 90 px beyond the end
        (313.1, 0.0, False),
        (-113.0, 0.0, True),
        (-113.1, 0.0, False),
        (150.0, 1.5, True),
        (150.0, -1.5, True),
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


@pytest.mark.parametrize(("length", "found"), [(100.0, True), (99.9, False)])
def test_two_pieces_are_enough_among_many_where_one_is_long(length, found):
    """Two others as bright would lie and point so by chance."""
    others = [one._replace(x=one.x + 3000) for one in crowd(150, 3, (8.0, 40.0))]
    glints = find_glint_trails([*others, *pieces((0.0, length), (300.0, 30.0))], FWHM, AREA)
    assert ([sorted(one.members) for one in glints] == [[150, 151]]) == found


@given(
    st.floats(100, 200), st.floats(150, 450), st.floats(8, 40),
    st.floats(-1500, 1500), st.floats(8, 40), st.floats(5, 60),
)  # fmt: skip
@example(100.0, 200.0, 25.0, 520.0, 22.0, 9.0)
@example(100.0, 150.0, 8.0, 0.0, 8.0, 11.0)  # on the long one, and stronger
@example(100.0, 150.0, 8.0, 51.0, 8.0, 5.0)  # at its end: with it one trail in pieces
@settings(max_examples=20, deadline=None)
def test_what_two_pieces_are_alone_they_are_beside_any_third(length, gap, dash, at, third, snr):
    """Chance gives sets of three among so many faint pieces; two of which one is long are a set all the same."""
    others = [one._replace(x=one.x + 6000) for one in crowd(110, 3, (8.0, 40.0))]
    long, near = pieces((0.0, length), (0.5 * length + gap + 0.5 * dash, dash))
    assert [sorted(one.members) for one in find_glint_trails([*others, long, near], FWHM, AREA)] == [[110, 111]]
    beside = pieces((at, third))[0]._replace(snr=snr)
    found = [set(one.members) for one in find_glint_trails([*others, long, near, beside], FWHM, AREA)]
    assert any(110 in one and one & {111, 112} for one in found)


@pytest.mark.parametrize(("gap", "which"), [(190.0, [150, 152]), (210.0, [150, 151])])
def test_of_two_pieces_beside_a_long_one_the_closer_belongs_to_it(gap, which):
    others = [one._replace(x=one.x + 6000) for one in crowd(150, 3, (8.0, 40.0))]
    (found,) = find_glint_trails([*others, *pieces((0.0, 120.0), (270.0, 20.0), (-70.0 - gap, 20.0))], FWHM, AREA)
    assert sorted(found.members) == which


@pytest.mark.parametrize(("length", "belongs"), [(4.0, False), (3.9, True)])
def test_what_has_a_direction_belongs_to_flashes_only_along_it(length, belongs):
    trails = [DetectedSegment(300.0 + each, 400.0, 10.0, 0.0, 9.0) for each in (0, 100, 200)]
    trails.append(DetectedSegment(450.0, 400.0, length, 90.0, 9.0))
    (found,) = find_glint_trails(trails, 2.0, 4000.0**2)
    assert (3 in found.members) == belongs


@pytest.mark.parametrize(
    ("lengths", "snr", "line", "is_set"),
    [
        ((10.0, 20.0, 40.0), (9.0, 1.0, 99.0), 3000.0, True),  # three, of whatever brightness and distance
        ((10.0, 20.0, 40.1), (9.0, 9.0, 9.0), 400.0, False),
        ((100.0, 30.0), (9.0, 99.0), 630.0, True),  # 500 px dark
        ((100.0, 30.0), (9.0, 99.0), 630.1, False),
        ((99.9, 30.0), (9.0, 9.0), 400.0, False),
        ((100.0, 20.0, 30.0), (9.0, 9.0, 9.0), 650.0, True),
        ((10.0, 12.5), (8.0, 10.0), 450.0, True),
        ((10.0, 12.5), (8.0, 10.0), 450.1, False),
        ((10.0, 12.6), (8.0, 10.0), 450.0, False),
        ((10.0, 12.5), (8.0, 10.1), 450.0, False),
    ],
)
def test_limits_of_sets_of_flashes(lengths, snr, line, is_set):
    assert _is_set(np.array(lengths), np.array(snr), DetectedSegment(0.0, 0.0, line, 0.0, 9.0)) == is_set


@pytest.mark.parametrize(("length", "found"), [(4.0, 0), (3.9, 1)])
def test_what_has_a_direction_is_in_a_row_only_along_it(length, found):
    points = in_row(0, 100, 200)
    points[1] = points[1]._replace(length=length, angle=143.13)  # across the row
    assert len(find_glint_trails(points, 2.0, 1e7)) == found


@pytest.mark.parametrize(("snr", "found"), [(36.0, 1), (36.1, 0)])
def test_two_in_a_row_differ_by_a_factor_of_four_at_most(snr, found):
    first, second, third = in_row(0, 100, 200)
    assert len(find_glint_trails([first, second, third._replace(snr=snr)], 2.0, 1e7)) == found


@pytest.mark.parametrize(("off", "found"), [(2.0, 1), (2.01, 0)])
def test_a_flash_is_two_px_off_its_place_at_most(off, found):
    for at in (700.0 + off, 700.0 - off):
        points = [DetectedSegment(x, 500.0, 0.0, 0.0, 9.0) for x in (500.0, 600.0, at)]
        assert len(find_glint_trails(points, 2.0, 1e7)) == found


@pytest.mark.parametrize(("apart", "kept"), [(10.0, [0]), (-10.0, [0]), (10.1, [0, 1])])
def test_a_piece_half_the_longer_length_away_repeats_another(apart, kept):
    assert _once(np.array([3.0, 3.0 + apart]), np.array([16.0, 20.0])) == kept
    assert _once(np.array([3.0, 3.0 + apart]), np.array([20.0, 16.0])) == kept


@pytest.mark.parametrize(("length", "dark"), [(120.0, 0.0), (120.1, 30.1)])
def test_a_line_of_which_a_quarter_is_dark_is_one_trail_in_pieces(length, dark):
    three = [DetectedSegment(at, 0.0, 30.0, 0.0, 9.0) for at in (0.0, 45.0, 90.0)]
    assert _dark(three, (0, 1, 2), DetectedSegment(45.0, 0.0, length, 0.0, 9.0)) == pytest.approx(dark)
