"""Known objects on an exposure: `predict_known`, and their detections: `match_known`."""

import numpy as np
import pyarrow as pa
import pytest

from kernels.orbits.ephemeris import OrbitCatalogue, observe
from kernels.sky.observatories import OBSERVATORIES, observer_at
from schemas.dia_source import DIA_SOURCE, DetectionFlag
from schemas.errors import Misconfigured
from schemas.known_object import SS_EPHEMERIS
from schemas.pixels import UNUSABLE, MaskPlane
from schemas.settings import MatchKnownSettings, PredictKnownSettings
from schemas.stage import Context
from stages.match_known import STAGE as MATCH
from stages.predict_known import STAGE as PREDICT
from tests.support.cards import as_text, elsewise, gnomonic
from tests.support.exposure import exposure_info
from tests.support.filled import filled
from tests.support.orbits import PALOMAR, asteroids, comets

SHAPE, WHEN = (600, 500), 61020.3


def around(ra, dec, **changes):
    """Return an exposure centred at a place, 1 arcsec a pixel, north up and east left."""
    header = as_text(gnomonic([ra, dec], [250.5, 300.5]))
    known = {
        "night": "20261120", "visit": 7, "detector": 3, "instrument": "ZTF/MOSAIC", "midpoint_mjd_tai": WHEN,
        "shape": SHAPE, "noise": 10.0, "zero_point": 26.0, "wcs_header": header, "source_uri": "a.fits",
    }  # fmt: skip
    return exposure_info(**{**known, **changes})


@pytest.fixture(scope="module")
def sky():
    """Thirty objects, and how they are seen from Palomar."""
    orbits = asteroids(30, 61000.0)
    return orbits, observe(orbits, observer_at(WHEN, OBSERVATORIES["I41"]))


def predicted(orbits, exposure, mask=None, **settings):
    inputs = {"mask": np.zeros(SHAPE, np.uint16) if mask is None else mask, "orbits": OrbitCatalogue(orbits)}
    return PREDICT(inputs, Context(exposure=exposure, settings=PredictKnownSettings(**settings))).rows


def detections(places, **columns):
    """Return rows of `dia_source` at (ra, dec)."""
    count = len(places)
    given = {
        "diaSourceId": np.arange(count) + 100, "ra": [ra for ra, _ in places], "dec": [dec for _, dec in places],
        "raErr": 1e-5, "decErr": 1e-5, **columns,
    }  # fmt: skip
    return filled(DIA_SOURCE.schema, count, **given)


def matched(found, known, exposure, **settings):
    inputs = {"dia_source": found, "ss_ephemeris": known}
    return MATCH(inputs, Context(exposure=exposure, settings=MatchKnownSettings(**settings))).rows.to_pylist()


def moved(ra, dec, east, north):
    return ra + east / 3600 / np.cos(np.radians(dec)), dec + north / 3600


def test_an_object_is_where_the_middle_of_its_image_is(sky):
    orbits, seen = sky
    for n in range(5):
        exposure = around(seen.ra[n], seen.dec[n])
        (row,) = [one for one in predicted(orbits, exposure).to_pylist() if one["designation"].endswith(f"TA{n}")]
        assert (row["x"], row["y"]) == (pytest.approx(249.5, abs=1e-3), pytest.approx(299.5, abs=1e-3))
        assert (row["visit"], row["detector"], row["midpointMjdTai"]) == (7, 3, WHEN)
        assert row["ephVmag"] == pytest.approx(seen.magnitude[n], abs=1e-4)
        assert row["usable"]


@pytest.mark.parametrize("kind", [0, 1])
def test_an_object_is_there_whatever_the_axes(sky, kind):
    orbits, seen = sky
    wcs = elsewise(gnomonic([seen.ra[0], seen.dec[0]], [250.5, 300.5]))[kind]
    (row,) = predicted(orbits.take(slice(0, 1)), around(0, 0, wcs_header=as_text(wcs))).to_pylist()
    assert (row["x"], row["y"]) == pytest.approx((249.5, 299.5), abs=1e-3)


def test_only_what_is_on_the_image_or_may_be_is_listed(sky):
    orbits, seen = sky
    north = around(seen.ra[0], seen.dec[0] + 301 / 3600)  # 1 px below the image
    assert len(predicted(orbits.take(slice(0, 1)), north)) == 0
    vague = orbits.take(slice(0, 1))._replace(uncertainty=np.array([5.0]))
    (row,) = predicted(vague, north).to_pylist()
    assert row["ephUncertainty"] > 2
    assert not row["usable"]


@pytest.mark.parametrize(("seconds", "listed"), [(30.0, False), (30000.0, True)])
def test_an_object_is_listed_if_a_part_of_its_trail_may_be_on_the_image(sky, seconds, listed):
    """It moves by a quarter of a degree a day or so: 100 arcsec in 30,000 s, half of them to each side."""
    orbits, seen = sky
    assert 0.05 < seen.rate[0] < 1
    away = np.radians(seen.angle[0])
    place = moved(seen.ra[0], seen.dec[0], 310 * np.sin(away), 310 * np.cos(away))
    exposure = around(*place, exposure_time_s=seconds)
    rows = predicted(orbits.take(slice(0, 1)), exposure).to_pylist()
    assert [row["usable"] for row in rows] == [False] * listed


def test_what_is_too_faint_is_left_out(sky):
    orbits, seen = sky
    exposure = around(seen.ra[0], seen.dec[0])
    limit = 26 - 2.5 * np.log10(5 * 10 * 2 * np.sqrt(2.266))  # of a round Gaussian PSF of 2 px
    one = orbits.take(slice(0, 1))
    at_limit = one._replace(magnitude=one.magnitude + (limit - seen.magnitude[0]))
    assert len(predicted(at_limit, exposure, fainter=0.01)) == 1
    assert len(predicted(at_limit, exposure, fainter=-0.01)) == 0
    assert len(predicted(at_limit, exposure.model_copy(update={"zero_point": None}), fainter=-0.01)) == 1


@pytest.mark.parametrize("plane", MaskPlane)
def test_masked_pixels_are_not_usable_unless_the_search_takes_them(sky, plane):
    orbits, seen = sky
    mask = np.zeros(SHAPE, np.uint16)
    mask[299:301, 249:251] = plane | MaskPlane.DETECTED
    (row,) = predicted(orbits.take(slice(0, 1)), around(seen.ra[0], seen.dec[0]), mask).to_pylist()
    assert row["usable"] is (plane not in UNUSABLE)


def test_the_observatory_is_told_by_instrument_code_or_site(sky):
    orbits, seen = sky
    one, exposure = orbits.take(slice(0, 1)), around(seen.ra[0], seen.dec[0], instrument="own")
    places = {
        name: predicted(one, exposure, **settings).to_pylist()[0]
        for name, settings in {
            "none": {}, "centre": {"obscode": "500"}, "code": {"obscode": "I41"}, "site": {"site": PALOMAR},
        }.items()
    }  # fmt: skip
    assert places["none"] == places["centre"]
    assert places["site"]["ephRa"] == pytest.approx(places["code"]["ephRa"], abs=0.01 / 3600)
    assert places["site"]["ephUncertainty"] == pytest.approx(places["code"]["ephUncertainty"], abs=0.01)
    assert 1 < 3600 * np.hypot(places["none"]["ephRa"] - seen.ra[0], places["none"]["ephDec"] - seen.dec[0]) < 9
    assert places["none"]["ephUncertainty"] > places["code"]["ephUncertainty"] + 2, "parallax is not known"
    with pytest.raises(Misconfigured, match="give predict_known"):
        predicted(one, exposure, obscode="ZZZ")


def test_without_a_wcs_nothing_is_known(sky):
    assert len(predicted(sky[0], around(10, 10, wcs_header=None))) == 0


def test_a_detection_is_given_its_name_and_offsets(sky):
    orbits, seen = sky
    exposure = around(seen.ra[0], seen.dec[0])
    known = predicted(orbits.take(slice(0, 1)), exposure)
    angle = np.radians(seen.angle[0])
    east, north = 1.0 * np.sin(angle) + 0.5 * np.cos(angle), 1.0 * np.cos(angle) - 0.5 * np.sin(angle)
    (row,) = matched(detections([moved(seen.ra[0], seen.dec[0], east, north)]), known, exposure)
    assert (row["diaSourceId"], row["designation"]) == (100, "2026 TA0")
    assert row["ephOffset"] == pytest.approx(1.118, abs=1e-3)
    assert row["ephOffsetAlongTrack"] == pytest.approx(1.0, abs=1e-3)
    assert row["ephOffsetCrossTrack"] == pytest.approx(0.5, abs=1e-3)


def test_the_closest_pairs_are_taken_and_none_twice(sky):
    orbits, seen = sky
    exposure = around(seen.ra[0], seen.dec[0])
    pair = orbits.take(np.array([0, 0]))._replace(designation=np.array([b"A", b"B"]))
    known = predicted(pair, exposure)
    places = [moved(seen.ra[0], seen.dec[0], 0, off) for off in (1.5, 0.1, 0.5)]
    rows = matched(detections(places), known, exposure)
    assert [row["diaSourceId"] for row in rows] == [101, 102]
    assert {row["designation"] for row in rows} == {"A", "B"}


@pytest.mark.parametrize(
    ("columns", "agrees"),
    [
        ({}, True),
        ({"magAB": [2.4]}, True),
        ({"magAB": [2.6]}, False),
        ({"trailLength": [1.0], "trailAngle": [10.0]}, True),
        ({"trailLength": [9.0], "trailAngle": [10.0]}, False),
    ],
)
def test_trail_and_magnitude_have_to_agree(sky, columns, agrees):
    orbits, seen = sky
    exposure = around(seen.ra[0], seen.dec[0])
    if "magAB" in columns:
        columns = {"magAB": [seen.magnitude[0] + columns["magAB"][0]]}
    found = detections([(seen.ra[0], seen.dec[0])], **columns)
    assert bool(matched(found, predicted(orbits.take(slice(0, 1)), exposure), exposure)) is agrees


@pytest.mark.parametrize(("seconds", "agrees"), [(0.0, True), (30.0, False)])
def test_where_the_exposure_time_is_not_known_any_length_agrees(sky, seconds, agrees):
    orbits, seen = sky
    exposure = around(seen.ra[0], seen.dec[0], exposure_time_s=seconds)
    found = detections([(seen.ra[0], seen.dec[0])], trailLength=[9.0], trailAngle=[seen.angle[0]])
    assert bool(matched(found, predicted(orbits.take(slice(0, 1)), exposure), exposure)) is agrees


@pytest.mark.parametrize(("fainter", "agrees"), [(-2.6, False), (-2.4, True), (6.0, True)])
def test_a_comet_is_as_bright_as_its_coma_at_most(fainter, agrees):
    orbits = comets(61000.0)
    seen = observe(orbits, observer_at(WHEN, OBSERVATORIES["I41"]))
    exposure = around(seen.ra[0], seen.dec[0])
    known = predicted(orbits, exposure)
    assert known["designation"].to_pylist() == ["C/2026 A1 (One)"]
    found = detections([(seen.ra[0], seen.dec[0])], magAB=[seen.magnitude[0] + fainter])
    assert bool(matched(found, known, exposure)) is agrees


def fast(sky):
    """Return an exposure of 30 s and an object whose trail on it is 30 arcsec long (24 deg / day), at 40 deg."""
    orbits, seen = sky
    exposure = around(seen.ra[0], seen.dec[0])
    known = predicted(orbits.take(slice(0, 1)), exposure)
    for name, value in (("ephRate", 24.0), ("ephRateAngle", 40.0)):
        place = SS_EPHEMERIS.schema.get_field_index(name)
        known = known.set_column(place, SS_EPHEMERIS.schema.field(name), pa.array([value], pa.float32()))
    return exposure, known, seen


@pytest.mark.parametrize(
    ("length", "along", "across", "fainter", "flags", "agrees"),
    [
        (6, 12, 0, 1.8, DetectionFlag.EDGE, True), (6, -12, 0, 4.0, DetectionFlag.EDGE, True),
        (6, 12, 0, 1.8, 0, False), (6, 12, 4, 1.8, DetectionFlag.EDGE, False),
        (6, 18, 0, 1.8, DetectionFlag.EDGE, False),
        (45, 0, 0, 0.0, DetectionFlag.EDGE, False), (30, 0, 0, -2.6, DetectionFlag.EDGE, False),
        (6, 12, 0, 1.8, DetectionFlag.EDGE | 8, True), (6, 12, 0, 1.8, 8, False),
    ],
)  # fmt: skip
def test_what_touches_the_border_may_be_a_part_of_a_trail(sky, length, along, across, fainter, flags, agrees):
    exposure, known, seen = fast(sky)
    angle = np.radians(40.0)
    east = along * np.sin(angle) + across * np.cos(angle)
    north = along * np.cos(angle) - across * np.sin(angle)
    found = detections(
        [moved(seen.ra[0], seen.dec[0], east, north)], trailLength=[float(length)], trailAngle=[40.0],
        magAB=[seen.magnitude[0] + fainter], flags=[int(flags)],
    )  # fmt: skip
    assert bool(matched(found, known, exposure)) is agrees


def test_a_fast_object_has_to_move_as_its_trail_does(sky):
    exposure, known, seen = fast(sky)
    for angle, length, agrees in ((41, 30, True), (221, 28, True), (80, 30, False), (41, 3, False)):
        found = detections([(seen.ra[0], seen.dec[0])], trailLength=[float(length)], trailAngle=[float(angle)])
        assert bool(matched(found, known, exposure)) is agrees, (angle, length)


def test_an_uncertain_orbit_is_looked_for_along_its_motion_only(sky):
    orbits, seen = sky
    exposure = around(seen.ra[0], seen.dec[0])
    vague = orbits.take(slice(0, 1))._replace(uncertainty=np.array([6.0]))
    known = predicted(vague, exposure)
    angle = np.radians(seen.angle[0])
    for along, across, found in ((20.0, 0.0, True), (-20.0, 1.0, True), (0.0, 4.0, False), (40.0, 0.0, False)):
        east = along * np.sin(angle) + across * np.cos(angle)
        north = along * np.cos(angle) - across * np.sin(angle)
        rows = matched(detections([moved(seen.ra[0], seen.dec[0], east, north)]), known, exposure)
        assert bool(rows) is found, (along, across)


def test_rows_without_a_place_are_left_out(sky):
    orbits, seen = sky
    exposure = around(seen.ra[0], seen.dec[0])
    found = detections([(None, None), (seen.ra[0], seen.dec[0])])
    assert [row["diaSourceId"] for row in matched(found, predicted(orbits, exposure), exposure)] == [101]
