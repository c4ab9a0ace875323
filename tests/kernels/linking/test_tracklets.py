import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from kernels.linking import tracklets as module
from kernels.linking.detections import detections_at, find_stationary
from kernels.linking.tracklets import PAIR_RATE, _choices, find_pairs, find_tracklets

EXPOSURE = 30.0  # s
CENTRE = SkyCoord(150 * u.deg, 20 * u.deg)


def night(rng, visits, movers, density, side=3.0, minutes=30.0):
    """Sky of false detections with movers of known rates: ra, dec, mjd, owner (-1), trail length and angle."""
    days = np.arange(visits) * minutes / 1440
    rates, angles = np.exp(rng.uniform(np.log(0.1), np.log(60), movers)), rng.uniform(0, 360, movers)
    starts = CENTRE.spherical_offsets_by(*(rng.uniform(-0.3, 0.3, (2, movers)) * u.deg))
    parts = []
    for day in days:
        places = starts.directional_offset_by(angles * u.deg, rates * (day - days.mean()) * u.deg)
        parts.append((places.ra.deg, places.dec.deg, day, np.arange(movers), rates / 86400 * 3600 * EXPOSURE, angles))
        count = rng.poisson(density * side**2)
        false = CENTRE.spherical_offsets_by(*(rng.uniform(-side / 2, side / 2, (2, count)) * u.deg))
        lengths = np.exp(rng.uniform(np.log(0.3), np.log(60), count))
        parts.append((false.ra.deg, false.dec.deg, day, np.full(count, -1), lengths, rng.uniform(0, 180, count)))
    ra, dec, owner, length, angle = (np.concatenate([part[n] for part in parts]) for n in (0, 1, 3, 4, 5))
    mjd = 60000.2 + np.concatenate([np.full(len(part[0]), part[2]) for part in parts])
    ra += rng.normal(0, 0.15 / 3600, len(ra)) / np.cos(np.radians(dec))
    dec += rng.normal(0, 0.15 / 3600, len(ra))
    length = np.abs(length + rng.normal(0, 0.5, len(ra)))
    angle = (angle + rng.normal(0, 1, len(ra)) * np.degrees(0.4 / np.maximum(length, 1))) % 180
    return ra, dec, mjd, owner, length, angle


def linked(ra, dec, mjd, length=None, angle=None, **known):
    if length is not None:
        known |= {"trail_length": length, "trail_angle": angle, "exposure_time": np.full(len(ra), EXPOSURE)}
    detections = detections_at(ra, dec, mjd, np.full(len(ra), 0.15), **known)
    return find_tracklets(detections, ~find_stationary(detections))


def scored(tracklets, owner):
    """Movers that one pure tracklet has, and the number of pure tracklets."""
    owners = [set(owner[list(one.members)].tolist()) for one in tracklets]
    pure = [next(iter(some)) for some in owners if len(some) == 1 and -1 not in some]
    return set(pure), len(pure)


def test_alike_magnitudes_link_faster_movers_without_trails():
    found, mixed = [0, 0], 0
    for seed, known in np.ndindex(3, 2):
        rng = np.random.default_rng(seed)
        ra, dec, mjd, owner, _, _ = night(rng, 3, 30, 10.0)
        bright = np.where(owner < 0, rng.uniform(16, 21, len(owner)), 17 + owner / 8 + rng.normal(0, 0.15, len(owner)))
        tracklets = linked(ra, dec, mjd, **({"magnitude": bright} if known else {}))
        movers, pure = scored(tracklets, owner)
        found[known], mixed = found[known] + len(movers), mixed + len(tracklets) - pure
    assert found[1] >= 0.85 * 90 > found[0] + 5
    assert mixed <= 0.02 * sum(found)


@pytest.mark.parametrize("visits", [3, 4, 5])
@pytest.mark.parametrize("density", [1.0, 10.0])
def test_movers_are_linked_among_false_detections(visits, density):
    found, pure, total = 0, 0, 0
    for seed in range(3):
        ra, dec, mjd, owner, length, angle = night(np.random.default_rng(seed), visits, 30, density)
        tracklets = linked(ra, dec, mjd, length, angle)
        movers, good = scored(tracklets, owner)
        found, pure, total = found + len(movers), pure + good, total + len(tracklets)
    assert found >= 0.95 * 90
    assert pure >= 0.98 * total


@pytest.mark.parametrize("trails", [True, False])
@pytest.mark.parametrize(("visits", "density"), [(3, 1.0), (5, 10.0), (4, 100.0)])
def test_chance_gives_hardly_any(trails, visits, density):
    count = 0
    for seed in range(4):
        ra, dec, mjd, _, *shape = night(np.random.default_rng(seed), visits, 0, density)
        count += len(linked(ra, dec, mjd, *(shape if trails else ())))
    assert count <= 6  # of four nights 2 x 0.2 each at most with three detections, 1.6 in all; Poisson, 99.9 %


def test_order_of_detections_does_not_matter():
    rng = np.random.default_rng(7)
    ra, dec, mjd, _, length, angle = night(rng, 4, 10, 5.0)
    order = rng.permutation(len(ra))
    one = {
        frozenset(order[list(t.members)].tolist()) for t in linked(*(x[order] for x in (ra, dec, mjd, length, angle)))
    }
    assert one == {frozenset(t.members) for t in linked(ra, dec, mjd, length, angle)}
    assert one


def test_no_detection_is_in_two_and_members_are_by_time():
    ra, dec, mjd, _, length, angle = night(np.random.default_rng(3), 5, 30, 10.0)
    tracklets = linked(ra, dec, mjd, length, angle)
    members = [n for one in tracklets for n in one.members]
    assert len(members) == len(set(members))
    assert all((np.diff(mjd[list(one.members)]) > 0).all() for one in tracklets)


def test_stars_that_are_seen_again_are_in_none():
    rng = np.random.default_rng(2)
    stars = rng.uniform(0, 1, (2, 300))
    ra, dec, mjd, owner, *_ = night(rng, 4, 10, 1.0)
    again = [
        (150 + stars[0] + rng.normal(0, 4e-5, 300), 20 + stars[1] + rng.normal(0, 4e-5, 300), day) for day in set(mjd)
    ]
    ra, dec = (np.concatenate([x, *(one[n] for one in again)]) for n, x in ((0, ra), (1, dec)))
    mjd = np.concatenate([mjd, *(np.full(300, one[2]) for one in again)])
    tracklets = linked(ra, dec, mjd)
    assert tracklets
    assert max(n for one in tracklets for n in one.members) < len(owner)


def eighth_nearest(sky):
    """Density about each of some positions, per deg2, by the distances of all."""
    return 8 / (np.pi * np.sort(sky[:, None].separation(sky[None]).deg, axis=1)[:, 8] ** 2)


def test_chances_are_those_of_the_plain_way():
    """All triples of three exposures whose rows have times of their own, by astropy's offsets on the sphere."""
    ra, dec, mjd, *_ = night(np.random.default_rng(6), 3, 12, 5.0)
    visit = np.round((mjd - mjd.min()) * 48).astype(int)
    mjd = mjd + np.random.default_rng(7).uniform(-0.3, 0.3, len(mjd)) / 86400
    sky = SkyCoord(ra, dec, unit="deg")
    density = np.concatenate([eighth_nearest(sky[visit == one]) for one in range(3)])
    rows = [np.flatnonzero(visit == one) for one in range(3)]
    i, k, j = (grid.ravel() for grid in np.meshgrid(*rows, indexing="ij"))
    part, hours = (mjd[k] - mjd[i]) / (mjd[j] - mjd[i]), 24 * (mjd[j] - mjd[i])
    way, heading = sky[i].separation(sky[j]), sky[i].position_angle(sky[j])
    off, turn = sky[i].separation(sky[k]), (sky[i].position_angle(sky[k]) - heading).to_value("rad")
    beside = np.arcsin(np.sin(off.rad) * np.sin(turn))
    ahead = np.arctan2(np.sin(off.rad) * np.cos(turn), np.cos(off.rad)) - part * way.rad
    known = 3 * 0.15 * np.sqrt((1 - part) ** 2 + part**2 + 1) + 0.3
    third = np.full(len(i), np.inf)
    for often, bends in ((1, (0.015, 0.004)), (5, (np.hypot(0.015, 3 * way.rad / hours), 0.012))):
        along, across = (known + bend * way.arcsec * hours * part * (1 - part) for bend in bends)
        squared = np.square(3 * np.degrees([ahead, beside]) * 3600 / [along, across]).sum(axis=0)
        area = often * np.pi * along * across / 9 / 3600**2 * np.exp(np.minimum(squared, 9) / 2)
        third = np.where(squared <= 9, np.minimum(third, density[k] * area), third)
    chance = len(rows[0]) * density[j] * np.pi * way.deg**2 * np.minimum(third, 1)
    good = (third < 1) & (way.arcsec >= 1) & (way.deg / hours * 24 <= 70) & (chance <= 0.2)
    plain = {(int(i[n]), int(k[n]), int(j[n])): chance[n] for n in np.flatnonzero(good)}
    found = {one.members: one.chance for one in linked(ra, dec, mjd)}
    assert len(found) >= 10
    assert found == pytest.approx({members: plain[members] for members in found}, rel=1e-3)
    used = {n for members in found for n in members}
    for (first, middle, last), one in plain.items():
        within_reach = one * density[first] ** 2 / (density[middle] * density[last]) < 0.05
        assert used & {first, middle, last} or not within_reach


def triple(along, across, minutes):
    """Three detections of what moves by a degree to the east along the equator, the middle one off by so much."""
    ra, dec = 150 + np.array([0, 0.5 + along / 3600, 1]), np.array([0, across / 3600, 0])
    return ra, dec, 60000 + np.array([0, 0.5, 1]) * minutes / 1440


@pytest.mark.parametrize(
    ("along", "across", "minutes", "count"),
    [
        (12.0, 0.0, 60.0, 1),  # its rate changes by 2.7 % in the hour
        (0.0, 4.0, 60.0, 1),  # parallax
        (0.0, 12.0, 60.0, 0),
        (12.0, 0.0, 30.0, 1),  # by 11 % an hour: at 48 deg / day what comes nearer may
        (60.0, 0.0, 30.0, 0),  # by 53 %
    ],
)
def test_ways_bend_along_more_than_across_and_with_the_time(along, across, minutes, count):
    assert len(linked(*triple(along, across, minutes))) == count


def passing(rng, count):
    """Four visits of what passes the Earth at 10 to 25 km / s in any direction, and at 5 to 60 deg / day."""
    centre = CENTRE.cartesian.xyz.value
    place = centre + rng.uniform(-0.05, 0.05, (count, 3))
    place /= np.linalg.norm(place, axis=1, keepdims=True)
    motion = rng.normal(size=(count, 3))
    motion *= (rng.uniform(10, 25, count) / np.linalg.norm(motion, axis=1))[:, None]
    across = np.linalg.norm(motion - (motion * place).sum(axis=1, keepdims=True) * place, axis=1)
    rate = np.exp(rng.uniform(np.log(5), np.log(60), count))
    distance = across * 86400 / np.radians(rate)  # km
    parts = []
    for minutes in (-60, -20, 20, 60):
        ends = [distance[:, None] * place + motion * (60 * minutes + late) for late in (0, EXPOSURE / 2, -EXPOSURE / 2)]
        sky, head, tail = (SkyCoord(*one.T, unit="km", representation_type="cartesian") for one in ends)
        sky, head, tail = (SkyCoord(one.spherical.lon, one.spherical.lat) for one in (sky, head, tail))
        length, angle = tail.separation(head).arcsec, tail.position_angle(head).deg % 180
        parts.append(
            (sky.ra.deg, sky.dec.deg, np.full(count, 60000.25 + minutes / 1440), np.arange(count), length, angle)
        )
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def test_what_comes_nearer_or_goes_is_linked_with_all_its_detections():
    """Straight ways past the Earth: their rates change by up to twice the angle they move, and more."""
    rng = np.random.default_rng(5)
    ra, dec, mjd, owner, length, angle = passing(rng, 150)
    ra, dec = (values + rng.normal(0, 0.15 / 3600, len(ra)) for values in (ra, dec))
    whole = [one for one in linked(ra, dec, mjd, length, angle) if len(set(owner[list(one.members)])) == 1]
    assert sum(len(one.members) == 4 for one in whole) >= 0.95 * 150


def pair(length, angle, minutes=20.0, rate=10.0):
    """Two detections of what moves to the east at a rate, with trails."""
    step = rate * minutes / 1440
    return (
        np.array([150.0, 150.0 + step]),
        np.zeros(2),
        60000 + np.array([0, minutes / 1440]),
        np.array(length),
        np.array(angle),
    )


@pytest.mark.parametrize(
    ("length", "angle", "count"),
    [
        ((12.5, 12.5), (90.0, 90.0), 1),  # 10 deg / day in 30 s
        ((12.5, 12.5), (90.0, 120.0), 0),  # one points elsewhere
        ((12.5, 25.0), (90.0, 90.0), 0),  # unlike in length
        ((40.0, 40.0), (90.0, 90.0), 0),  # too long for the way between
        ((0.0, 0.0), (90.0, 90.0), 0),  # two points are not a tracklet
    ],
)
def test_two_detections_are_linked_by_their_trails(length, angle, count):
    assert len(linked(*pair(length, angle))) == count


@pytest.mark.parametrize("dec", [89.8, -89.95])
def test_directions_near_a_pole_are_those_at_each_place(dec):
    rng, days = np.random.default_rng(4), np.array([0.0, 1 / 48, 1 / 24])
    start = SkyCoord(rng.uniform(0, 360, 15) * u.deg, np.full(15, dec) * u.deg)
    rate, onward = rng.uniform(10, 30, 15), rng.uniform(0, 360, 15) * u.deg
    places = [start.directional_offset_by(onward, rate * day * u.deg) for day in (*days, 1.0)]
    angle = np.concatenate([one.position_angle(places[-1]).deg for one in places[:-1]]) % 180
    ra, dec = (np.concatenate([getattr(one, name).deg for one in places[:-1]]) for name in ("ra", "dec"))
    found = linked(ra, dec, 60000.2 + np.repeat(days, 15), np.tile(rate / 24 * EXPOSURE, 3), angle)
    assert {one.members for one in found} == {(n, n + 15, n + 30) for n in range(15)}


def test_nights_are_linked_apart_and_simultaneous_detections_never():
    ra, dec, mjd, _, length, angle = night(np.random.default_rng(5), 3, 5, 0.0)
    both = [np.tile(x, 2) for x in (ra, dec, length, angle)]
    tracklets = linked(both[0], both[1] + np.repeat([0, 2.0], len(ra)), np.concatenate([mjd, mjd + 1]), *both[2:])
    assert len(tracklets) == 10
    assert all(np.ptp(np.array(one.members) // len(ra)) == 0 for one in tracklets)
    assert linked(ra, dec, np.full(len(ra), 60000.0), length, angle) == []


def test_magnitudes_of_one_object_are_alike():
    ra, dec, mjd = 150 + np.arange(3) * 0.01, np.zeros(3), 60000 + np.arange(3) * 0.02
    assert len(linked(ra, dec, mjd, magnitude=np.array([20.0, 20.5, 19.8]))) == 1
    assert linked(ra, dec, mjd, magnitude=np.array([20.0, 17.0, 19.8])) == []


def test_the_motion_is_that_of_the_object():
    ra, dec, mjd, owner, length, angle = night(np.random.default_rng(1), 4, 6, 0.0)
    for one in linked(ra, dec, mjd, length, angle):
        mover = owner[one.members[0]]
        assert length[list(one.members)].mean() / EXPOSURE * 24 == pytest.approx(one.motion.rate, abs=1.2, rel=0.1)
        assert abs((angle[owner == mover][0] - one.motion.angle + 90) % 180 - 90) < max(6, 60 / one.motion.rate)
        assert one.motion.rms < 0.5


def pairs(ra, dec, mjd, most=1000, sigma=0.15, **known):
    detections = detections_at(ra, dec, mjd, np.full(len(ra), sigma), **known)
    return find_pairs(detections, np.ones(len(ra), bool), most)


def test_pairs_are_all_that_may_be_one_object():
    """By the plain way: every two detections of a night."""
    rng = np.random.default_rng(4)
    ra, dec = 150 + rng.uniform(-0.2, 0.2, 200), rng.uniform(-0.2, 0.2, 200)
    mjd = 60000.2 + rng.choice([0.0, 0.004, 0.02, 0.05, 0.15, 1.0, 1.03], 200)
    found, rate = pairs(ra, dec, mjd)
    sky, days = SkyCoord(ra, dec, unit="deg"), mjd[None] - mjd[:, None]
    way = sky[:, None].separation(sky[None]).deg
    may = (days >= 0.15 * 2**0.5 / 40) & (days <= 0.1) & (way >= 1 / 3600) & (way <= 1.5 * days)
    expected = set(zip(*map(np.ndarray.tolist, np.nonzero(may)), strict=True))
    assert rate == PAIR_RATE
    assert len(found) == len(set(map(tuple, found))) > 100
    assert set(map(tuple, found)) == expected


def test_of_too_many_pairs_the_slow_ones_are_kept():
    rng = np.random.default_rng(5)
    ra, dec = 150 + rng.uniform(-0.2, 0.2, 300), rng.uniform(-0.2, 0.2, 300)
    mjd = 60000.2 + rng.choice([0.0, 0.03, 0.06], 300)
    whole, some = pairs(ra, dec, mjd), pairs(ra, dec, mjd, most=50)
    assert (len(some[0]), len(whole[0]) > 100, some[1] < PAIR_RATE) == (50, True, True)
    assert set(map(tuple, some[0])) < set(map(tuple, whole[0]))


def test_as_many_pairs_as_are_allowed_are_all_kept():
    ra, dec, mjd = 150 + np.arange(4) * 0.003, np.zeros(4), np.array([0.0, 0.02, 0.04, 0.06])
    whole, rate = pairs(ra, dec, mjd)
    assert (len(whole), rate) == (6, PAIR_RATE)
    same, rate = pairs(ra, dec, mjd, most=6)
    assert (same.tolist(), rate) == (whole.tolist(), PAIR_RATE)
    assert len(pairs(ra, dec, mjd, most=5)[0]) < 6


def test_pairs_at_just_the_rate_are_looked_at(monkeypatch):
    ra, dec, mjd = 150 + np.arange(4) ** 2 * 0.003, np.zeros(4), np.array([0.0, 0.02, 0.04, 0.06])
    _, rate = pairs(ra, dec, mjd, most=5)  # that of the fastest of six
    monkeypatch.setattr(module, "PAIR_RATE", rate)
    assert [len(pairs(ra, dec, mjd, most)[0]) for most in (5, 6)] == [5, 6]


@pytest.mark.parametrize(
    ("days", "count"),
    [(0.1, 1), (0.1001, 0), (90 / 86400, 1), (89.9 / 86400, 0)],
    ids=["2.4 h", "more", "90 s", "less"],
)
def test_pairs_are_90_s_to_2_4_hours_apart(days, count):
    ra, mjd = np.array([150.0, 150.0 + days]), np.array([0.0, days])
    assert len(pairs(ra, np.zeros(2), mjd, sigma=0.01)[0]) == count


@pytest.mark.parametrize(("seen", "rate"), [(8, PAIR_RATE), (7, 0.8 * PAIR_RATE)])
def test_where_there_are_too_many_pairs_to_be_looked_at_the_fast_ones_are_not(seen, rate, monkeypatch):
    """Four detections near each other are sixteen pairs, with each one's own and both orders."""
    monkeypatch.setattr(module, "_PAIRS_SEEN", seen)
    ra = 150 + np.array([0.0, 0.01, 0.02, 0.13])  # the last is within 0.15 deg, but not within 0.12
    assert pairs(ra, np.zeros(4), np.array([0.0, 0.02, 0.04, 0.06]))[1] == pytest.approx(rate)


@pytest.mark.parametrize(("seconds", "count"), [(90.0, 1), (89.9, 0)])
def test_the_ends_of_a_tracklet_are_90_s_apart(seconds, count):
    ra, mjd = np.array([150.0, 150.0 + seconds / 8640]), np.array([0.0, seconds / 86400])  # 10 deg / day
    assert len(linked(ra, np.zeros(2), mjd, np.full(2, 12.5), np.full(2, 90.0))) == count


def test_pairs_agree_in_brightness_and_trails():
    ra, dec, mjd = np.array([150.0, 150.01]), np.zeros(2), np.array([60000.2, 60000.23])
    assert len(pairs(ra, dec, mjd)[0]) == 1
    assert len(pairs(ra, dec, mjd, magnitude=np.array([18.0, 21.0]))[0]) == 0
    across = {"trail_length": np.array([10.0, 10.0]), "trail_angle": np.zeros(2)}
    assert len(pairs(ra, dec, mjd, **across)[0]) == 0
    assert len(pairs(ra[:0], dec[:0], mjd[:0])[0]) == 0


@pytest.mark.parametrize(
    ("known", "count"),
    [
        ({}, 1),
        ({"length_error": np.array([0.5, 0.5]), "angle_error": np.array([2.0, 2.0])}, 1),
        ({"length_error": np.array([0.5, 3.0])}, 0),  # perhaps a point
        ({"angle_error": np.array([2.0, 25.0])}, 0),  # it may point anywhere
    ],
)
def test_trails_count_as_far_as_they_are_known(known, count):
    assert len(linked(*pair((12.5, 12.5), (90.0, 90.0)), **known)) == count


def test_lengths_and_directions_may_differ_by_their_errors():
    ra, dec, mjd = 150 + np.arange(3) * 0.04, np.zeros(3), 60000 + np.arange(3) * 0.02  # 2.5 arcsec in 30 s
    shape = {"length": np.array([2.5, 7.5, 2.0]), "angle": np.array([90.0, 40.0, 90.0])}
    assert linked(ra, dec, mjd, **shape) == []
    assert len(linked(ra, dec, mjd, **shape, length_error=np.full(3, 1.6), angle_error=np.full(3, 15.0))) == 1


def test_fields_far_apart_are_linked_as_if_each_were_alone():
    fields = [night(np.random.default_rng(seed), 3, 10, 2.0) for seed in (1, 2, 3)]
    shifted = [(ra + 100 * n, dec, mjd + n * 40 / 86400, *rest) for n, (ra, dec, mjd, *rest) in enumerate(fields)]
    alone, first = set(), 0
    for ra, dec, mjd, _, length, angle in shifted:
        alone |= {tuple(first + one for one in some.members) for some in linked(ra, dec, mjd, length, angle)}
        first += len(ra)
    ra, dec, mjd, _, length, angle = (np.concatenate(columns) for columns in zip(*shifted, strict=True))
    assert {some.members for some in linked(ra, dec, mjd, length, angle)} == alone
    assert len(alone) >= 25


def test_a_mover_is_followed_into_the_next_field():
    """Visits of two fields side by side; what leaves one is seen in the other between the two visits of the first."""
    rng = np.random.default_rng(1)
    visits = [(150.0, 0.0), (151.0, 0.02), (150.0, 0.04), (151.0, 0.06)]
    parts = [
        (ra + rng.uniform(-0.5, 0.5, 10), rng.uniform(-0.5, 0.5, 10), np.full(10, 60000 + day)) for ra, day in visits
    ]
    days = np.array([day for _, day in visits])
    mover = (150.45 + 2 * days, np.zeros(4), 60000 + days)
    ra, dec, mjd = (np.concatenate([*(part[n] for part in parts), mover[n]]) for n in range(3))
    (found,) = linked(ra, dec, mjd)
    assert found.members == (40, 41, 42, 43)


def test_lengths_without_angles_have_no_direction():
    """Of lengths without angles two agree always: that is no reason to link unrelated detections."""
    ra, dec, mjd, owner, length, _ = night(np.random.default_rng(3), 3, 0, 10.0)
    assert len(linked(ra, dec, mjd, np.maximum(length, 30.0), np.full(len(ra), np.nan))) == 0
    ra, dec, mjd, owner, length, angle = night(np.random.default_rng(4), 4, 20, 1.0)
    known, unknown = (linked(ra, dec, mjd, length, one) for one in (angle, np.full(len(ra), np.nan)))
    assert all(len(one.members) >= 3 for one in unknown)
    chance = {one.members: one.chance for one in known}
    assert all(one.chance >= chance.get(one.members, 0.0) for one in unknown)
    assert len(scored(unknown, owner)[0]) >= 18


def test_a_field_may_be_seen_in_more_than_a_thousand_exposures():
    """The number of ways to choose these is more than a float holds."""
    ways = _choices(1100, 1090)
    assert np.isfinite(ways).all()
    assert ways[1] == 1090 * 1099 * 1098 / 2


@pytest.mark.parametrize("trails", [True, False])
@pytest.mark.parametrize(("visits", "minutes"), [(30, 13.0), (100, 1.0)])
def test_a_field_that_is_seen_all_night_is_linked_in_seconds(visits, minutes, trails):
    """All exposures with each other would take minutes."""
    ra, dec, mjd, owner, length, angle = night(np.random.default_rng(8), visits, 30, 10.0, 4.0, minutes)
    seen = (owner < 0) | ((np.abs(ra - 150) < 2) & (np.abs(dec - 20) < 2))
    ra, dec, mjd, owner, length, angle = (one[seen] for one in (ra, dec, mjd, owner, length, angle))
    tracklets = linked(ra, dec, mjd, *((length, angle) if trails else ()))
    movers, pure = scored(tracklets, owner)
    often = {mover for mover in range(30) if (owner == mover).sum() >= 8}
    assert len(movers & often) >= 0.95 * len(often) > 15
    assert pure >= 0.98 * len(tracklets)
    longest = [
        max((len(one.members) for one in tracklets if owner[one.members[0]] == mover), default=0) for mover in often
    ]
    assert np.mean(np.array(longest) / [(owner == mover).sum() for mover in often]) >= 0.85


def test_detections_with_times_of_their_own_are_linked_by_parts_of_the_night():
    ra, dec, mjd, owner, *_ = night(np.random.default_rng(9), 4, 20, 8.0)
    rng = np.random.default_rng(10)
    way = CENTRE.spherical_offsets_by(*(rng.uniform(-1, 1, (2, 20)) * u.deg))
    times = 60000.2 + np.sort(rng.uniform(0, 0.15, (4, 20)), axis=0)
    places = way.directional_offset_by(rng.uniform(0, 360, 20) * u.deg, 2 * (times - 60000.2) * u.deg)
    false = owner < 0
    ra = np.concatenate([ra[false], places.ra.deg.ravel()])
    dec = np.concatenate([dec[false], places.dec.deg.ravel()])
    mjd = np.concatenate([60000.2 + rng.uniform(0, 0.15, false.sum()), times.ravel()])
    owner = np.concatenate([owner[false], np.tile(np.arange(20), 4)])
    tracklets = linked(ra, dec, mjd)
    assert len(scored(tracklets, owner)[0]) >= 16


def short_series(rng, visits, seconds, sources, stated):
    """Detections of 2 x 2 deg, with owners: movers 0 to 4, sources at rest from 5; nine in ten are seen in a visit."""
    days, count = np.arange(visits) * seconds / 86400, 5 + sources
    place, scatter = rng.uniform(-1, 1, (count, 2)), rng.uniform(0.1, 0.3, count)
    rate, angle = np.where(np.arange(count) < 5, rng.uniform(1, 10, count), 0.0), rng.uniform(0, 2 * np.pi, count)
    seen = rng.random((visits, count)) < np.where(np.arange(count) < 5, 1.0, 0.9)
    visit, owner = np.nonzero(seen)
    way = rate[owner] * (days[visit] - days.mean())
    x, y = (place[owner] + way[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)[owner]).T
    x, y = (value + rng.normal(0, scatter[owner]) / 3600 for value in (x, y))
    sigma = scatter[owner] if stated else np.full(len(owner), 0.2)
    return detections_at(150 + x, y, 60000.2 + days[visit], sigma), owner


@pytest.mark.parametrize(("visits", "seconds", "stated"), [(4, 200, False), (10, 40, True), (30, 20, False)])
def test_what_is_at_rest_in_a_short_series_is_no_mover(visits, seconds, stated):
    detections, owner = short_series(np.random.default_rng(3), visits, seconds, 1000, stated)
    assert not find_stationary(detections).any()
    owners = [set(owner[list(one.members)]) for one in find_tracklets(detections, np.ones(len(owner), np.bool_))]
    assert [{n} in owners for n in range(5)] == [True] * 5
    assert len(owners) <= 6


def test_long_trails_are_linked_to_the_shortest_that_are_alike():
    detections = detections_at(
        np.array([10.0, 10.0, 10.0]), np.array([0.0, 0.06, 0.12]), 60000 + np.arange(3) / 48, np.full(3, 0.1),
        trail_length=np.array([5.6, 3.2, 3.2]), trail_angle=np.zeros(3), exposure_time=np.full(3, 30.0),
    )  # fmt: skip
    assert [one.members for one in find_tracklets(detections, np.ones(3, np.bool_))] == [(0, 1, 2)]


def test_long_trails_are_linked_among_many_points():
    """Movers of 20 to 50 deg / day, their rate changing by 2 % an hour, among 100 points and a few trails per deg2."""
    rng, movers, points = np.random.default_rng(5), 20, 2500
    rate, angle = rng.uniform(20, 50, movers), rng.uniform(0, 2 * np.pi, movers)
    start, parts = rng.uniform(-2, 2, (movers, 2)), []
    for day in np.array([0, 25, 55]) / 1440:
        since = day - 0.02
        way = rate * since * (1 + 0.24 * since)
        place = start + way[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        false = rng.uniform(-2.5, 2.5, (points, 2))
        length = np.where(rng.random(points) < 0.1, rng.exponential(6, points), 0.0)
        parts.append((np.vstack([place, false]), np.full(movers + points, day), np.append(rate * 1.25, length)))
    place, mjd, length = (np.concatenate([part[n] for part in parts]) for n in range(3))
    turned = np.tile(np.append(np.degrees(angle), rng.uniform(0, 180, points)), 3) % 180
    detections = detections_at(
        150 + place[:, 0], place[:, 1], 60000.2 + mjd, np.full(len(mjd), 0.15),
        trail_length=length, trail_angle=turned, exposure_time=np.full(len(mjd), 30.0),
    )  # fmt: skip
    found = [
        {n % (movers + points) for n in one.members} for one in find_tracklets(detections, np.full(len(mjd), True))
    ]
    assert sum(found.count({n}) for n in range(movers)) >= 19
    assert len(found) <= movers + 1
