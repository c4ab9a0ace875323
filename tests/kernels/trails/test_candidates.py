import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.trails.candidates import (
    Candidate,
    absorb,
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
    assert join_glints(flashes, [True, True, True, True, False], FWHM, 1e7) == flashes


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
