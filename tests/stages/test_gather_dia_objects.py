"""Objects of a night: means, flags, and what they sit on."""

import numpy as np
import pyarrow as pa
import pytest

from kernels.sky.patches import Patch, pixels_at
from kernels.sky.positions import unit_vectors
from schemas.class_table import STAR_GALAXY
from schemas.dia_object import ASSOCIATION, DIA_OBJECT, DIA_OBJECT_SOURCE, DiaObjectFlag
from schemas.objects import DIA_LINK, OBJECT, SourceFlag
from schemas.stage import Context
from stages.gather_dia_objects import STAGE
from stages.link_dia_objects import STAGE as LINK
from tests.support.filled import filled_rows

ARCSEC = 1 / 3600


def association(*rows):
    """Rows of (diaSourceId, diaObjectId, night, ra, dec, weight, mjd, band, flux)."""
    sources, objects, nights, ra, dec, weight, mjd, band, flux = map(list, zip(*rows, strict=True))
    axes = dict(zip("xyz", unit_vectors(np.array(ra, float), np.array(dec, float)).T, strict=True))
    columns = {
        "diaSourceId": sources, "diaObjectId": objects, "night": nights, **axes, "weight": np.array(weight, float),
        "separation": [0.25] * len(rows), "midpointMjdTai": np.array(mjd, float), "band": band,
        "psfFlux": pa.array(flux, pa.float64()), "psfFluxErr": [10.0] * len(rows),
    }  # fmt: skip
    return pa.table(columns, schema=ASSOCIATION.schema)


def gathered(found, **others):
    table = STAGE({ASSOCIATION.name: found, **others}, Context()).rows
    return {row["diaObjectId"]: row for row in table.to_pylist()}


def labelled(labels):
    columns = {
        field.name: pa.array([1.0 if pa.types.is_floating(field.type) else ""] * len(labels)).cast(field.type)
        for field in STAR_GALAXY.schema if field.name not in ("objectId", "classLabel")
    }  # fmt: skip
    table = {"objectId": pa.array(labels.keys(), pa.int64()), "classLabel": pa.array(labels.values()), **columns}
    return pa.table({name: table[name] for name in STAR_GALAXY.schema.names}, schema=STAR_GALAXY.schema)


def linked(rows):
    """dia_link of (diaSourceId, objectId, separation)."""
    sources, objects, apart = map(list, zip(*rows, strict=True))
    nothing = {name: pa.nulls(len(rows), DIA_LINK.schema.field(name).type) for name in DIA_LINK.schema.names[3:]}
    first = {
        "diaSourceId": pa.array(sources, pa.int64()), "objectId": pa.array(objects, pa.int64()),
        "separation": pa.array(apart, pa.float32()),
    }  # fmt: skip
    return pa.table({**first, **nothing}, schema=DIA_LINK.schema)


def test_means_are_by_the_errors_and_fluxes_by_band():
    rows = gathered(
        association(
            (1, 1, "20260101", 359.9999, 0.0, 100, 61000.1, "r", 100.0),
            (2, 1, "20260102", 0.0001, 3 * ARCSEC, 200, 61001.2, "g", None),
            (3, 1, "20260102", 0.0, 0.0, 0.001, 61001.3, "r", 300.0),
            (4, 4, "20260102", 50.0, 89.0, 25, 61001.3, "i", 70.0),
        )
    )
    one, other = rows[1], rows[4]
    assert one["dec"] == pytest.approx(2 * ARCSEC, rel=1e-4)
    assert (one["ra"] + 180) % 360 - 180 == pytest.approx(0.0001 / 3, rel=1e-3)
    assert one["raErr"] == one["decErr"] == pytest.approx(300**-0.5 * ARCSEC, rel=1e-4)
    assert (one["nDiaSources"], one["firstDiaSourceMjdTai"], one["lastDiaSourceMjdTai"]) == (3, 61000.1, 61001.3)
    assert (one["r_psfFluxMean"], one["r_psfFluxChi2"], one["r_psfFluxSigma"]) == pytest.approx(
        (200, 200, 2**0.5 * 100)
    )
    assert (one["r_psfFluxMin"], one["r_psfFluxMax"], one["r_psfFluxNdata"]) == (100, 300, 2)
    assert (one["g_psfFluxNdata"], one["g_psfFluxMean"]) == (0, None)  # the detection has no flux
    assert (other["i_psfFluxMean"], other["i_psfFluxSigma"], other["i_psfFluxStetsonJ"]) == (70, None, None)


@pytest.mark.parametrize(("minutes", "rests"), [(0.5, False), (15, False), (25, True), (1440, True)])
def test_at_rest_is_what_is_seen_after_what_moves_has_gone(minutes, rests):
    """0.03 deg a day take it 1.5 arcsec away in 20 minutes."""
    times = (61000.0, 61000.0 + minutes / 1440)
    found = association(*((n, 1, "20260101", 10.0, 0.0, 100, mjd, "r", 1.0) for n, mjd in enumerate(times)))
    assert bool(gathered(found)[1]["flags"] & DiaObjectFlag.STATIONARY) is rests


def test_flags_say_what_detections_sit_on():
    ids = range(1, 8)
    found = association(*((n, n, "20260101", 10.0 + n, 0.0, 100, 61000.0, "r", 1.0) for n in ids))
    on = linked([(1, 11, 0.2), (2, 12, 0.2), (3, 13, 0.2), (4, None, None), (5, 11, 1.2), (6, 99, 0.1)])
    classes = labelled({11: "star", 12: "galaxy", 13: "unknown"})
    rows = gathered(found, dia_link=on, star_galaxy=classes)
    star, core = DiaObjectFlag.VARIABLE_STAR, DiaObjectFlag.NUCLEAR
    # The fifth is not within its reach, the sixth has no class, the seventh no link.
    assert [rows[n]["flags"] for n in ids] == [star, core, 0, 0, 0, 0, 0]
    assert {row["flags"] for row in gathered(found, dia_link=on).values()} == {0}


def photometry(rows):
    """What is read of `object`: objectId -> (exposures, flux in r, flags)."""
    form = OBJECT.only(STAGE.columns[OBJECT.name]).schema
    made = [
        {"objectId": name, "r_nExposures": count, "r_psfFlux": flux, "flags": int(flags)}
        for name, (count, flux, flags) in rows.items()
    ]
    return filled_rows(form, made)


def test_a_new_source_that_is_a_star_of_its_own_night_is_no_variable_star():
    """Nights before say nothing of this one; a star beside it, and a core, have theirs."""
    sat, star, core = SourceFlag.SATURATED, DiaObjectFlag.VARIABLE_STAR, DiaObjectFlag.NUCLEAR
    objects = {
        11: (2, 1050.0, 0), 12: (2, 1800.0, 0), 13: (2, 1000.0, sat), 14: (2, None, 0), 15: (2, 900.0, 0),
        17: (2, 1000.0, 0),
    }  # fmt: skip
    rows = [
        (10 * n + visit, n, "20260101", 10.0 + n, 0.0, 100, 61000.0 + visit, "r", -1000.0 if n == 5 else 1000.0 + visit)
        for n in range(1, 8)
        for visit in range(2)
    ]
    before = (5, 1, "20251230", 11.0, 0.0, 100, 60998.0, "r", 20.0)
    inputs = {
        "dia_link": linked([(row[0], 10 + row[1], 0.2) for row in rows]),
        "star_galaxy": labelled(dict.fromkeys(range(11, 17), "star") | {17: "galaxy"}),
    }
    found = association(before, *rows)
    with_fluxes = gathered(found, **inputs, object=photometry(objects))
    # A new source, a variable star, a saturated one, one without a flux, one that faded, one that is not there, a core.
    assert [with_fluxes[n]["flags"] & ~1 for n in range(1, 8)] == [0, star, star, star, star, star, core]
    without = gathered(found, **inputs)
    assert [without[n]["flags"] & ~1 for n in range(1, 8)] == [star] * 6 + [core]


def motion_of(*places):
    """The row of an object that was seen at (night, days, arcsec east, arcsec north) of a place at 60 deg north."""
    rows = [
        (n, 0, night, 10 + east * ARCSEC / np.cos(np.radians(60)), 60 + north * ARCSEC, 100, 61000.0 + day, "r", 1.0)
        for n, (night, day, east, north) in enumerate(places)
    ]
    return gathered(association(*rows))[0]


def test_a_star_has_the_motion_of_its_detections():
    """1 arcsec east and 2 south in a year; three nights with two detections each, of the same errors."""
    years = (0.0, 0.5, 1.0)
    row = motion_of(*((f"2026010{n}", 365.25 * y + k / 48, y, -2 * y) for n, y in enumerate(years) for k in (0, 1)))
    assert (row["pmRa"], row["pmDec"]) == pytest.approx((1000, -2000), rel=1e-3)
    # Six of 0.1 arcsec, 0.5 yr apart from the mean: 0.1 / sqrt(4 / 4) arcsec / yr.
    assert row["pmRaErr"] == row["pmDecErr"] == pytest.approx(100, rel=1e-3)
    assert row["radecMjdTai"] == pytest.approx(61000 + 365.25 / 2 + 1 / 96)
    assert (row["ra"], row["dec"]) == pytest.approx((10 + 0.5 * ARCSEC * 2, 60 - ARCSEC), abs=1e-8)


@pytest.mark.parametrize(
    ("nights", "days", "known"),
    [("112", (0, 20, 40), False), ("123", (0, 20, 29), False), ("123", (0, 20, 30), True), ("1", (0,), False)],
)
def test_a_motion_needs_three_nights_in_thirty_days(nights, days, known):
    row = motion_of(*((f"2026010{night}", day, 0, 0) for night, day in zip(nights, days, strict=True)))
    columns = [row[name] for name in ("pmRa", "pmRaErr", "pmDec", "pmDecErr")]
    assert [one is not None for one in columns] == [known] * 4
    assert row["radecMjdTai"] == pytest.approx(61000 + np.mean(days))


def test_a_night_without_detections_has_no_objects():
    assert len(STAGE({ASSOCIATION.name: ASSOCIATION.empty()}, Context()).rows) == 0


def test_objects_are_those_in_the_patch_and_its_margin():
    """By their mean, not by where they were seen in the night."""
    (pixel,) = pixels_at(np.array([45.0]), np.array([0.0]), 9)
    dec = np.arange(0, 1200, 0.1) * ARCSEC
    border = dec[np.flatnonzero(pixels_at(np.full(len(dec), 45.0), dec, 9) != pixel)[0]]
    means = {1: -20.0, 2: -0.5, 3: 0.5, 4: 20.0, 5: 200.0}
    found = association(*(
        (10 * name + n, name, f"2026010{n}", 45.0, border + (mean + offset) * ARCSEC, 100, 61000.0 + n, "r", 1.0)
        for name, mean in means.items()
        for n, offset in ((1, -1.0), (2, 1.0))
    ))  # fmt: skip
    whole, patch = gathered(found), Patch(9, int(pixel), 30.0)
    made = STAGE({ASSOCIATION.name: found}, Context(patch=patch)).rows
    assert {row["diaObjectId"]: row for row in made.to_pylist()} == {name: whole[name] for name in (1, 2, 3, 4)}
    assert made.filter(pa.array(patch.holds(made["ra"].to_numpy(), made["dec"].to_numpy())))[
        "diaObjectId"
    ].to_pylist() == [1, 2]


def test_links_are_those_of_the_last_night_and_of_objects_that_are_given():
    found = association(
        (9, 1, "20260101", 10.0, 0.0, 100, 61000.0, "r", 1.0),
        (8, 5, "20260102", 11.0, 0.0, 100, 61001.0, "r", 1.0),
        (7, 1, "20260102", 10.0, 0.5 * ARCSEC, 100, 61001.0, "r", 1.0),
    )
    objects = STAGE({ASSOCIATION.name: found}, Context()).rows
    made = LINK({ASSOCIATION.name: found, DIA_OBJECT.name: objects}, Context()).rows
    assert made.schema.equals(DIA_OBJECT_SOURCE.schema)
    assert made.to_pydict() == {"diaSourceId": [7, 8], "diaObjectId": [1, 5], "separation": [0.5, 0.0]}
    some = LINK({ASSOCIATION.name: found, DIA_OBJECT.name: objects[1:]}, Context()).rows
    assert some["diaSourceId"].to_pylist() == [8]
    assert len(LINK({ASSOCIATION.name: found, DIA_OBJECT.name: DIA_OBJECT.empty()}, Context()).rows) == 0


def test_separations_depend_on_the_objects_of_the_links_alone():
    """Not on other objects, on later detections of the night, or on those that the store has."""
    rng = np.random.default_rng(3)
    rows = [
        (
            10 * n + k, n, f"2026010{1 + k // 2}", 10 + n, rng.normal(0, 0.2) * ARCSEC, 100, 61000 + k // 2 + k / 48,
            "r", 1.0,
        )
        for n in range(4)
        for k in range(6)
    ]  # fmt: skip

    def links(some):
        found = association(*some)
        objects = STAGE({ASSOCIATION.name: found}, Context()).rows
        made = LINK({ASSOCIATION.name: found, DIA_OBJECT.name: objects}, Context()).rows
        return {row["diaSourceId"]: row for row in made.to_pylist()}

    expected = links(rows)
    assert expected.keys() == {10 * n + k for n in range(4) for k in (4, 5)}
    assert links(rows[:6] + rows[18:]) == {one: expected[one] for one in (4, 5, 34, 35)}
    assert links([row for row in rows if row[0] % 10 != 5]) == {one: expected[one] for one in (4, 14, 24, 34)}
