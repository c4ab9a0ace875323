import pytest

from flows.report.detection import detections


def test_the_most_reliable_comes_first(kit):
    rows = kit.rows(kit.info(), 30, 7)
    found = detections(kit.table(rows))
    assert [one.rank for one in found] == list(range(1, 31))
    assert [one.reliability for one in found] == sorted((one.reliability for one in found), reverse=True)
    assert {one.id for one in found} == {row["diaSourceId"] for row in rows}


def test_ties_go_by_signal_to_noise_and_id(kit):
    rows = kit.rows(kit.info(), 3, 7)
    for row, snr in zip(rows, (5.0, 9.0, 9.0), strict=True):
        row |= {"reliability": 0.5, "snr": snr}
    first, second, third = detections(kit.table(rows[::-1]))
    assert (first.snr, second.snr, third.snr) == (9, 9, 5)
    assert first.id < second.id


def test_facts_carry_units_and_leave_out_what_is_not_known(kit):
    full, _, _, bare = kit.rows(kit.info(), 4, 7)
    full |= {"trailLengthPx": 6.0, "trailLength": 6.2, "trailAnglePx": 120.4, "dec": -20.02, "snr": 12.34}
    bare |= {"trailLengthPx": 0.0, "trailAnglePx": 10.0}
    told = {one.id: dict(one.facts) for one in detections(kit.table([full, bare]))}
    known, unknown = told[full["diaSourceId"]], told[bare["diaSourceId"]]
    assert known["Length"] == "6.0 px, 6.2″"
    assert known["Angle"] == "120°, PA 33°"
    assert known["mag r"] == "19.40 ± 0.06"
    assert (known["RA"], known["Dec"], known["S/N"]) == ("150.01000°", "−20.02000°", "12.3")
    assert (unknown["Length"], unknown["Angle"]) == ("0.0 px", "10°")
    assert {unknown[name] for name in ("RA", "Dec", "mag r")} == {"–"}


def test_a_length_that_is_no_number_is_drawn_as_a_point(kit):
    (row,) = kit.rows(kit.info(), 1, 7)
    (one,) = detections(kit.table([row | {"trailLengthPx": float("nan"), "trailAnglePx": float("nan")}]))
    assert (one.length, one.angle) == (0, 0)
    assert dict(one.facts)["Length"].startswith("–")


def test_summary_says_what_it_is(kit):
    (row,) = kit.rows(kit.info(), 1, 7)
    row |= {"reliability": 0.987, "snr": 8.25, "trailLengthPx": 14.0, "x": 10.0, "y": 300.26}
    (one,) = detections(kit.table([row]))
    assert one.summary == "Detection 1: reliability 0.99, S/N 8.2, length 14.0 px at (10.0, 300.3)"
    assert one.anchor == f"d{row['diaSourceId']}"


def test_nothing_gives_nothing(kit):
    assert detections(kit.table([])) == ()


@pytest.mark.parametrize(("flags", "words"), [(0, ()), (1 | 128, ("at the edge", "no zero point"))])
def test_flags_are_words(kit, flags, words):
    (row,) = kit.rows(kit.info(), 1, 7)
    assert detections(kit.table([row | {"flags": flags}]))[0].flags == words
