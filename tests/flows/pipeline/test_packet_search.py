import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from flows.inputs.packet_files import read_packets
from flows.inputs.ztf_packets import identify, read_packet
from flows.pipeline.packet_search import (
    CANVAS,
    CENTRE,
    noise_correlation_of,
    nominal_turn,
    nominal_wcs,
    on_canvas,
    own_psf,
    place_on_canvas,
    row_digest,
    search_digest,
    search_packet,
)
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.sky.projection import celestial_wcs
from kernels.trails.trail_model import trail_image
from schemas.dia_source import DetectionFlag
from schemas.packet_source import FOUND, ZTF_PACKET_SOURCE, PacketFlag
from schemas.pixels import UNUSABLE
from schemas.settings import DetectSettings, MeasureSettings, Settings
from tests.support.models import write_reliability, write_windows
from tests.support.ztf import ARCHIVES, FOLDER, real_packets, record

PSF = moffat_mixture(2.3, 3.0)
FLUX = 4000.0


def noisy(seed, *sources, shape=(63, 63), level=0.0):
    """Noise of 5 with sources of (flux, x, y)."""
    pixels = np.random.default_rng(seed).normal(level, 5, shape)
    for flux, x, y in sources:
        pixels += flux * trail_image(shape, x, y, 0.0, 0.0, PSF)
    return pixels


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Settings with a network whose every window is a hit, and a verdict that is the S/N alone."""
    folder = tmp_path_factory.mktemp("models")
    write_windows(folder, threshold=1e-30)
    write_reliability(folder, gain=4.0, offset=-4.0 * np.log1p(10.0), threshold=0.5)
    return Settings(detect=DetectSettings(model=str(folder)))


def searched(settings, *arguments, **fields):
    one = record(*arguments, **fields)
    return search_packet(read_packet(one, "a"), identify(one, "a"), settings)


def table(row):
    found = pa.Table.from_pylist([row], schema=ZTF_PACKET_SOURCE.schema)
    ZTF_PACKET_SOURCE.check(found)
    return found


STARS = noisy(9, (9e4, 14, 16), level=200)


def test_what_shines_at_the_alert_is_measured_where_the_packet_says(trained):
    """The alert lies 0.25 px right of and 0.25 px below the middle of the stamp, and so does the source."""
    result = searched(trained, pixels=noisy(1, (FLUX, 31.25, 30.75)), science=STARS)
    row = result.row
    table(row)
    assert result.windows > 0
    assert row["detected"]
    assert row["reliability"] > 0.9
    assert (row["x"], row["y"]) == pytest.approx((1499.25, 899.75), abs=0.15)
    assert row["alertDistance"] < 0.2
    away = SkyCoord(row["ra"], row["dec"], unit="deg").separation(SkyCoord(10.0, -5.0, unit="deg")).arcsec
    assert away == pytest.approx(1.0127 * row["alertDistance"], rel=1e-3)
    assert row["magAB"] == pytest.approx(26.0 - 2.5 * math.log10(FLUX), abs=0.1)
    assert row["psfFwhm"] == pytest.approx(2.3, rel=0.1)
    assert row["packetFlags"] == PacketFlag.NOMINAL_WCS
    assert (row["visit"], row["detector"], row["band"], row["objectId"]) == (69725284, 1, "r", "ZTF18abc")
    assert not row["flags"] & (DetectionFlag.NO_WCS | DetectionFlag.NO_ZERO_POINT | DetectionFlag.ASSUMED_PSF)


def test_south_is_up_and_west_is_right(trained):
    row = searched(trained, pixels=noisy(1, (FLUX, 34.25, 32.75)), science=STARS).row
    assert row["alertDistance"] == pytest.approx(math.hypot(3, 2), abs=0.15)
    east = (row["ra"] - 10.0) * math.cos(math.radians(5)) * 3600
    north = (row["dec"] + 5.0) * 3600
    assert (east, north) == pytest.approx((-3 * 1.0127, -2 * 1.0127), abs=0.15)
    turn = math.radians(nominal_turn(-5.0)) * row["alertDistance"] * 1.0127 / 3600
    assert row["raErr"] > turn > 0


def test_where_nothing_is_found_the_row_is_there_all_the_same(trained):
    row = searched(trained, pixels=noisy(2)).row
    assert not row["detected"]
    away = searched(trained, pixels=noisy(3, (FLUX, 45, 45)), science=STARS).row
    assert (away["detected"], away["x"], away["alertDistance"]) == (False, None, None)
    assert away["nCandidates"] >= 1
    assert all(away[name] is None for name in FOUND)
    table(away)


def test_a_hole_is_no_detection(trained):
    row = searched(trained, pixels=noisy(1, (FLUX, 31.25, 30.75)), science=STARS, isdiffpos="f").row
    assert (row["detected"], row["brighter"]) == (False, False)
    assert row["packetFlags"] & PacketFlag.FAINTER


def test_a_detection_below_the_least_reliability_is_told(trained):
    strict = trained.model_copy(update={"measure": MeasureSettings(min_reliability=0.999999)})
    pixels = noisy(1, (600, 31.25, 30.75))
    rows = [searched(one, pixels=pixels, science=STARS).row for one in (trained, strict)]
    assert rows[0]["reliability"] == rows[1]["reliability"]
    assert [row["detected"] for row in rows] == [rows[0]["reliability"] >= 0.5, False]


@pytest.mark.parametrize(
    ("pixels", "flag"),
    [
        (np.full((63, 63), np.nan), PacketFlag.EMPTY),
        (np.zeros((63, 63)), PacketFlag.EMPTY),
        (noisy(1)[:, :45], PacketFlag.TRUNCATED),
    ],
)
def test_stamps_with_little_to_search(trained, pixels, flag):
    row = searched(trained, pixels=pixels, science=None).row
    assert row["packetFlags"] & flag
    assert row["packetFlags"] & PacketFlag.NO_SCIENCE
    table(row)


def test_what_is_not_known_is_null_and_told(trained):
    """Without a place, a zero point and an exposure time: no sky and no flux columns, and 30 s assumed."""
    fields = {"ra": None, "magzpsci": None, "exptime": None, "seeratio": None}
    row = searched(trained, pixels=noisy(1, (FLUX, 31.25, 30.75)), science=None, **fields).row
    table(row)
    assert row["detected"]
    assert (row["ra"], row["psfFlux"], row["packetRa"], row["zeroPoint"]) == (None, None, None, None)
    wanted = DetectionFlag.NO_WCS | DetectionFlag.NO_ZERO_POINT | DetectionFlag.ASSUMED_PSF
    assert row["flags"] & wanted == wanted
    assert row["packetFlags"] & PacketFlag.ASSUMED_EXPOSURE_TIME
    assert not row["packetFlags"] & PacketFlag.NOMINAL_WCS
    assert row["exposureTime"] == 30


def test_a_row_depends_on_its_packet_and_the_settings_alone(trained):
    one = record(pixels=noisy(1, (FLUX, 31.25, 30.75)), science=STARS)
    packet, identity = read_packet(one, "a"), identify(one, "a")
    first = search_packet(packet, identity, trained).row
    searched(trained, pixels=noisy(5), science=noisy(6, level=90))
    again = search_packet(packet, identity, trained).row
    assert first == again
    assert first["digest"] == row_digest(identity, search_digest(trained))
    other = trained.model_copy(update={"measure": MeasureSettings(aperture_fwhm=2.0)})
    assert search_digest(other) != search_digest(trained)


def test_the_nominal_wcs_is_one_that_astropy_reads():
    packet = read_packet(record(), "a")
    cards = nominal_wcs(packet)
    wcs = celestial_wcs(cards)
    x, y = place_on_canvas(packet)
    assert (x, y) == (CENTRE + 0.25, CENTRE - 0.25)
    assert wcs.pixel_to_world_values(x, y) == pytest.approx((10.0, -5.0))
    assert isinstance(wcs, WCS)
    assert nominal_wcs(replace(packet, dec=-80.0)) is None  # meridians converge: north may be anywhere
    assert nominal_wcs(replace(packet, ra=math.nan)) is None


def test_psf_is_that_of_the_stars_or_as_the_packet_tells():
    with_stars = own_psf(read_packet(record(pixels=noisy(1), science=STARS), "a"))
    assert (with_stars.source, with_stars.fwhm_px) == ("image", pytest.approx(2.3, rel=0.1))
    told = own_psf(read_packet(record(pixels=noisy(1), science=noisy(2), fwhm=6.0, seeratio=0.5), "a"))
    assert (told.source, told.fwhm_px) == ("header", pytest.approx(math.sqrt(9 - 3.5)))
    for fields in ({"seeratio": None}, {"fwhm": 1.0}, {"fwhm": 600.0}):
        assert own_psf(read_packet(record(pixels=noisy(1), science=noisy(2), **fields), "a")).source == "assumed"


@real_packets
def test_the_nominal_wcs_holds_for_pairs_of_alerts_of_the_same_image():
    """Pixel scale and direction of north, from the places on image and sky that real packets tell."""
    images = {}
    for packet in read_packets(FOLDER / ARCHIVES[0]):
        images.setdefault(packet.image, []).append(packet)
    checked = 0
    for packets in images.values():
        for one, other in pairwise(packets):
            pixels = math.hypot(one.x - other.x, one.y - other.y)
            if pixels < 200:
                continue
            checked += 1
            a, b = (SkyCoord(p.ra, p.dec, unit="deg") for p in (one, other))
            east, north = (value.arcsec for value in a.spherical_offsets_to(b))
            scale = math.hypot(east, north) / pixels
            assert scale == pytest.approx(1.0127, rel=2e-3)
            expected = math.atan2(one.y - other.y, one.x - other.x)  # + x is west, + y is south
            turn = math.degrees(math.remainder(math.atan2(north, east) - expected, 2 * math.pi))
            assert abs(turn) <= nominal_turn(one.dec) + 0.3
    assert checked > 100


def packet_of(pixels, **fields):
    return read_packet(record(pixels=pixels, **fields), "a")


@pytest.mark.parametrize(("columns", "x"), [(slice(0, 63), 31.0), (slice(0, 40), 31.0), (slice(20, 63), 11.0)])
def test_the_alert_lies_in_the_middle_of_the_canvas(columns, x):
    pixels = np.zeros((63, 63))
    pixels[31, 31] = 7.0
    stamp = packet_of(pixels[:, columns], xpos=1 + x)
    canvas, mask = on_canvas(stamp, stamp.pixels)
    assert canvas.shape == mask.shape == (CANVAS, CANVAS)
    assert canvas[CENTRE, CENTRE] == 7.0
    assert ((mask & UNUSABLE) == 0).sum() == 63 * pixels[:, columns].shape[1]
    assert np.isnan(canvas[(mask & UNUSABLE) > 0]).all()


def test_a_window_of_the_grid_is_centred_on_the_alert():
    middles = np.arange(0, CANVAS - 26 + 1, 7) + 12.5
    assert np.abs(middles - CENTRE).min() == 0.5


def test_correlation_is_that_of_the_noise():
    rng = np.random.default_rng(7)
    kernel = np.array([0.5, 1.0, 0.5])
    stamps = []
    for scale in np.linspace(2, 9, 40):
        white = rng.standard_normal((63, 65))
        stamps.append(packet_of(scale * sum(k * white[:, i : i + 63] for i, k in enumerate(kernel)) + 3 * scale))
    rho = noise_correlation_of(stamps)
    middle = rho.shape[0] // 2
    expected = np.correlate(kernel, kernel, "full")[2:] / np.sum(kernel**2)
    np.testing.assert_allclose(rho[middle, middle : middle + 3], expected, atol=0.03)
    assert abs(rho[middle + 1, middle]) < 0.03


def test_noise_of_a_flat_or_blank_stamp_divides_nothing():
    rho = noise_correlation_of(
        [packet_of(np.full((63, 63), np.nan)), packet_of(noisy(1)), packet_of(np.full((63, 63), 4.0))]
    )
    assert np.isfinite(rho).all()
    assert rho[rho.shape[0] // 2, rho.shape[1] // 2] == 1.0
