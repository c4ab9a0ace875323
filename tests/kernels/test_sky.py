import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from kernels.sky import celestial_wcs, pixel_scale, sky_trails

SCALE = 1.01 / 3600


def header(matrix, dec=35.0, extra=""):
    names = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
    cards = [f"{name:8}= {value:.12f}" for name, value in zip(names, np.ravel(matrix), strict=True)]
    cards += ["CTYPE1  = 'RA---TPV'", "CTYPE2  = 'DEC--TPV'", "CRPIX1  = 1500.5", "CRPIX2  = 1400.5"]
    cards += ["CRVAL1  = 359.95", f"CRVAL2  = {dec}", "CUNIT1  = 'deg'", "CUNIT2  = 'deg'", "RADESYS = 'ICRS'"]
    cards += ["PV1_0   = 0.0", "PV1_1   = 1.0002", "PV1_2   = 3e-4", "PV1_4   = 2e-3", "PV2_1   = 0.9997"]
    return "\n".join(card.ljust(80) for card in (*cards, *extra.splitlines()))


NORMAL = np.array([[-SCALE, 0.02 * SCALE], [0.02 * SCALE, SCALE]])  # north up, east left
FLIPPED = np.array([[SCALE, 0.0], [0.0, SCALE]])  # east right: the other parity
TURNED = SCALE * np.array([[-0.6, 0.8], [0.8, 0.6]])


def trails(text, n=25, seed=1):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 3000, (2, n))
    length, angle = rng.uniform(0, 90, n), rng.uniform(0, 180, n)
    root = rng.normal(size=(n, 4, 4)) * 0.1
    covariance = root @ np.swapaxes(root, 1, 2)
    return x, y, length, angle, covariance, sky_trails(celestial_wcs(text), x, y, length, angle, covariance)


def ends(text, x, y, length, angle):
    wcs, theta = celestial_wcs(text), np.radians(angle)
    dx, dy = 0.5 * length * np.cos(theta), 0.5 * length * np.sin(theta)
    return (SkyCoord(*wcs.all_pix2world(x + s * dx, y + s * dy, 0), unit="deg") for s in (-1, 0, 1))


@pytest.mark.parametrize("matrix", [NORMAL, FLIPPED, TURNED])
@pytest.mark.parametrize("dec", [35.0, -70.0, 89.5])
def test_length_and_angle_are_those_of_the_ends_on_the_sky(matrix, dec):
    text = header(matrix, dec)
    x, y, length, angle, _, sky = trails(text)
    tail, centre, head = ends(text, x, y, np.maximum(length, 2), angle)
    np.testing.assert_allclose(sky.ra, centre.ra.deg, rtol=1e-12)
    np.testing.assert_allclose(sky.dec, centre.dec.deg, rtol=1e-12)
    difference = (centre.position_angle(head).deg - sky.angle + 90) % 180 - 90
    assert np.abs(difference).max() < 0.05
    share = length / np.maximum(length, 2)
    np.testing.assert_allclose(sky.length, tail.separation(head).arcsec * share, rtol=1e-4)


def test_a_trail_to_the_north_points_to_0_and_one_to_the_east_to_90():
    zero = np.zeros((2, 4, 4))
    for matrix, east in ((NORMAL, 180.0), (FLIPPED, 0.0)):
        plain = header(np.diag(np.diag(matrix))).replace("TPV", "TAN").split("PV1_0")[0]
        where = np.full(2, 1499.5), np.full(2, 1399.5)
        sky = sky_trails(celestial_wcs(plain), *where, np.full(2, 20.0), np.array([90.0, east]), zero)
        assert (sky.angle[0] + 1) % 180 == pytest.approx(1, abs=0.01)
        assert sky.angle[1] == pytest.approx(90, abs=0.01)
        np.testing.assert_allclose(sky.length, 20 * 1.01, rtol=1e-4)


@pytest.mark.parametrize("matrix", [NORMAL, FLIPPED, TURNED])
def test_errors_are_those_of_many_displaced_trails(matrix):
    text = header(matrix)
    x, y, length, angle, covariance, sky = trails(text, n=3, seed=8)
    wcs, rng = celestial_wcs(text), np.random.default_rng(5)
    for n in range(3):
        draws = rng.multivariate_normal([x[n], y[n]], covariance[n, :2, :2], 4000)
        there = SkyCoord(*wcs.all_pix2world(*draws.T, 0), unit="deg")
        offsets = np.stack(SkyCoord(sky.ra[n], sky.dec[n], unit="deg").spherical_offsets_to(there))
        expected = np.cov(u.Quantity(offsets, "deg").value)
        spread = np.sqrt(np.diag(expected))
        np.testing.assert_allclose(
            sky.covariance[n] / np.outer(spread, spread), expected / np.outer(spread, spread), atol=0.1
        )
        longer = ends(text, x[n], y[n], length[n] + 1, angle[n])
        tail, _, head = longer
        slope = tail.separation(head).arcsec - sky.length[n]
        assert sky.length_err[n] == pytest.approx(np.sqrt(covariance[n, 2, 2]) * slope, rel=0.01)


def test_point_has_length_0():
    x = np.array([100.0])
    sky = sky_trails(celestial_wcs(header(NORMAL)), x, x, np.zeros(1), np.array([30.0]), np.full((1, 4, 4), np.nan))
    assert sky.length == 0
    assert np.isnan([sky.length_err[0], sky.angle_err[0], sky.covariance[0, 0, 0]]).all()


def test_fk5_is_carried_to_icrs():
    x = np.array([700.0])
    zero = np.zeros((1, 4, 4))
    text = header(NORMAL)
    fk5 = sky_trails(celestial_wcs(text.replace("'ICRS'", "'FK5' ")), x, x, x / 100, x, zero)
    there = SkyCoord(*celestial_wcs(text).all_pix2world(700, 700, 0), unit="deg", frame="fk5").icrs
    assert SkyCoord(fk5.ra, fk5.dec, unit="deg").separation(there).arcsec < 1e-6


@pytest.mark.parametrize(
    "text",
    ["", header(np.full((2, 2), SCALE)), header(NORMAL).replace("RA---TPV", "RA---XYZ"), "CTYPE1  = 'FREQ'".ljust(80)],
)
def test_what_is_no_wcs_is_refused(text):
    with pytest.raises(ValueError, match="WCS"):
        celestial_wcs(text)


@pytest.mark.parametrize("matrix", [NORMAL, FLIPPED, TURNED])
def test_pixel_scale_is_the_distance_of_neighbouring_pixels(matrix):
    wcs = celestial_wcs(header(matrix))
    here, there = wcs.pixel_to_world([1499.0, 1500.0], [1400.0, 1400.0])
    assert pixel_scale(wcs) == pytest.approx(here.separation(there).arcsec, rel=2e-3)
