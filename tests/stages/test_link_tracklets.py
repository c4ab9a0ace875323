import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dia_source import DIA_SOURCE
from tests.support.tracklets import false_detections, linked, mover, numbered, place, source_table

STAR = [place(150.3, 0.2, visit) for visit in range(3)]
SLOW = mover(150.0, 0.1, 0.5, 40.0, range(3))
FAST = mover(150.2, -0.1, 12.0, 250.0, range(3))


def links(groups, **changed):
    rows, ids = numbered(groups)
    table, _ = linked(source_table(rows), **changed)
    return {row["diaSourceId"]: row for row in table.to_pylist()}, ids


def test_a_star_rests_a_mover_has_a_tracklet_and_a_false_detection_neither():
    found, (star, slow, fast, *false) = links([STAR, SLOW, FAST, *false_detections(4)])
    assert len(found) == 9 + 12
    assert all(found[one]["stationary"] and found[one]["trackletId"] is None for one in star)
    for members in (slow, fast):
        assert [found[one]["trackletId"] for one in members] == [members[0]] * 3
        assert not any(found[one]["stationary"] for one in members)
        assert all(0 < found[one]["chance"] <= 0.05 for one in members)
    for (one,) in false:
        assert found[one] == dict.fromkeys(found[one]) | {"diaSourceId": one, "stationary": False}


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(9 + 12)))
def test_the_order_of_rows_changes_nothing(order):
    rows, _ = numbered([STAR, SLOW, FAST, *false_detections(4)])
    one, other = (linked(source_table(some)) for some in (rows, [rows[n] for n in order]))
    for first, second in zip(one, other, strict=True):
        assert first.equals(second)
    assert one[0]["diaSourceId"].to_pylist() == sorted(row["diaSourceId"] for row in rows)


@pytest.mark.parametrize("seed", range(3))
def test_tracklets_partition_their_members_and_are_named_after_the_first(seed):
    rng = np.random.default_rng(seed)
    movers = [mover(150 + ra, dec, 3 * rate, 360 * angle, range(3)) for ra, dec, rate, angle in rng.random((12, 4))]
    found, _ = links([*movers, *false_detections(20, seed=seed)])
    groups = {}
    for row in found.values():
        if row["trackletId"] is not None:
            groups.setdefault(row["trackletId"], []).append(row["diaSourceId"])
    assert len(groups) >= 10
    for name, members in groups.items():
        assert len(members) >= 2
        assert name == min(members)  # by visit, as by time
        assert len({one >> 21 for one in members}) == len(members)


def test_long_ids_keep_all_their_digits():
    rows, (slow, fast) = numbered([SLOW, FAST], first=2**42 - 3)
    links, tracklets = linked(source_table(rows))
    assert float(slow[0]) == float(fast[0])  # no float tells them apart
    assert sorted(tracklets["trackletId"].to_pylist()) == sorted([slow[0], fast[0]])
    found = zip(links["diaSourceId"].to_pylist(), links["trackletId"].to_pylist(), strict=True)
    assert dict(found) == dict.fromkeys(slow, slow[0]) | dict.fromkeys(fast, fast[0])


def test_offsets_are_how_far_a_detection_is_from_the_motion():
    off = mover(150.0, 0.0, 1.0, 90.0, range(5))
    off[2] |= {"ra": off[2]["ra"] + 0.30 / 3600, "dec": off[2]["dec"] + 0.25 / 3600}
    rows, (ids,) = numbered([off], 5)
    table, _ = linked(source_table(rows))
    along, across = (dict(zip(table["diaSourceId"].to_pylist(), table[f"{name}Offset"].to_pylist(), strict=True))
                     for name in ("along", "across"))  # fmt: skip
    assert along[ids[2]] == pytest.approx(0.30 * 0.8, abs=0.01)  # of five equal weights its own takes a fifth
    assert across[ids[2]] < -0.1  # north: 90 deg less than the motion's angle
    assert sum(along.values()) == pytest.approx(0, abs=1e-3)


def test_satellites_take_no_part():
    crossing = [row | {"trailClass": "satellite"} for row in SLOW]
    found, (one, star) = links([crossing, [row | {"trailClass": "satellite"} for row in STAR]])
    assert all(found[n]["trackletId"] is None and not found[n]["stationary"] for n in (*one, *star))


def test_without_a_sky_position_there_is_no_row():
    rows, (ids, _) = numbered([SLOW, [{"midpointMjdTai": STAR[0]["midpointMjdTai"], "ra": None, "dec": None}]])
    table, tracklets = linked(source_table(rows))
    assert table["diaSourceId"].to_pylist() == ids
    assert len(tracklets) == 1


def test_settings_limit_the_rate_and_the_chance():
    def count(**changed):
        rows, _ = numbered([SLOW, FAST, *false_detections(4)])
        return len(linked(source_table(rows), **changed)[1])

    assert (count(), count(max_rate=5.0), count(by_chance=1e-12)) == (2, 1, 0)


def test_a_trail_whose_angle_is_hardly_known_may_point_anywhere():
    crooked = mover(150.0, 0.1, 4.0, 40.0, range(3))
    crooked[1] |= {"trailAngle": 100.0, "trailAngleErr": 2.0}
    vague = [*crooked]
    vague[1] = vague[1] | {"trailAngleErr": 25.0}
    found = [linked(source_table(numbered([some])[0]))[1]["nSources"].to_pylist() for some in (crooked, vague)]
    assert found == [[2], [3]]


def test_nothing_gives_nothing():
    table, tracklets = linked(DIA_SOURCE.empty())
    assert (len(table), len(tracklets)) == (0, 0)
    assert pa.types.is_int64(table.schema.field("trackletId").type)
