import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from kernels.motion import along_great_circle
from kernels.placement import place_trails
from kernels.sky import celestial_wcs, sky_trails
from tests.kernels.test_sky import FLIPPED, NORMAL, TURNED, header

SHAPE = (3000, 3100)
SIP = "\n".join(
    line.ljust(80)
    for line in (
        "A_ORDER =                    2",
        "B_ORDER =                    2",
        "A_2_0   = 2.0E-06",
        "B_0_2   = -3.0E-06",
    )
)


def sip():
    """A WCS with SIP polynomials: 5 px of distortion in the corners."""
    text = header(NORMAL).replace("RA---TPV", "RA---TAN-SIP").replace("DEC--TPV", "DEC--TAN-SIP")
    return "\n".join(line[:80] for line in text.split("PV1_0")[0].rstrip().splitlines()) + "\n" + SIP


def trails(n=60, seed=2):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SHAPE[1] - 1, n), rng.uniform(0, SHAPE[0] - 1, n)
    return x, y, rng.uniform(2, 60, n), rng.uniform(0, 180, n)


@pytest.mark.parametrize("matrix", [NORMAL, FLIPPED, TURNED])
@pytest.mark.parametrize("dec", [35.0, -70.0, 89.5])
def test_leads_back_to_the_pixels_that_the_sky_came_from(matrix, dec):
    wcs, (x, y, length, angle) = celestial_wcs(header(matrix, dec)), trails()
    sky = sky_trails(wcs, x, y, length, angle, np.zeros((len(x), 4, 4)))
    placed = place_trails(wcs, SHAPE, sky.ra, sky.dec, sky.length, sky.angle)
    np.testing.assert_allclose(placed.x, x, atol=1e-4)
    np.testing.assert_allclose(placed.y, y, atol=1e-4)
    np.testing.assert_allclose(placed.length, length, rtol=1e-3)
    assert np.abs((placed.angle - angle + 90) % 180 - 90).max() < 0.05


def test_distortion_by_polynomials_is_undone():
    wcs = celestial_wcs(sip())
    x, y, length, angle = trails()
    assert wcs.sip is not None
    sky = sky_trails(wcs, x, y, length, angle, np.zeros((len(x), 4, 4)))
    placed = place_trails(wcs, SHAPE, sky.ra, sky.dec, sky.length, sky.angle)
    np.testing.assert_allclose(np.hypot(placed.x - x, placed.y - y), 0, atol=1e-3)


def test_length_is_rate_times_time_over_the_pixel_scale():
    plain = header(np.diag(np.diag(NORMAL))).replace("TPV", "TAN").split("PV1_0")[0]
    middle = celestial_wcs(plain).pixel_to_world(1499.5, 1399.5).icrs
    where = (np.array([middle.ra.deg] * 3), np.array([middle.dec.deg] * 3))
    placed = place_trails(celestial_wcs(plain), SHAPE, *where, np.array([0.0, 10.1, 20.2]), np.array([40.0, 0.0, 90.0]))
    np.testing.assert_allclose(placed.length, [0.0, 10.0, 20.0], atol=1e-5)  # 1.01 arcsec / px
    np.testing.assert_allclose((placed.angle + 1) % 180, [1.0, 91.0, 1.0], atol=1e-5)  # a point has angle 0


def test_what_is_not_on_the_image_is_nan():
    wcs = celestial_wcs(header(NORMAL))
    corner = wcs.pixel_to_world([-0.6, -0.4, SHAPE[1] - 0.4, SHAPE[1] - 0.6, 50], [9, 9, 9, 9, SHAPE[0] - 0.4]).icrs
    far = SkyCoord([10.0, 180.0, 359.95, 0.0], [35.0, -35.0, 37.0, 90.0], unit="deg")
    ra, dec = (np.concatenate([getattr(one, name).deg for one in (corner, far)]) for name in ("ra", "dec"))
    placed = place_trails(wcs, SHAPE, ra, dec, np.full(9, 5.0), np.zeros(9))
    assert np.isfinite(placed.x).tolist() == [False, True, False, True, *[False] * 5]
    assert all(np.isnan(part[~np.isfinite(placed.x)]).all() for part in placed)


def test_no_trails_are_no_trouble():
    assert len(place_trails(celestial_wcs(header(NORMAL)), SHAPE, *[np.empty(0)] * 4).x) == 0


def test_other_frames_than_icrs_are_converted():
    galactic = WCS(naxis=2)
    galactic.wcs.ctype = "GLON-TAN", "GLAT-TAN"
    galactic.wcs.crval, galactic.wcs.crpix, galactic.wcs.cdelt = (30.0, 40.0), (50.5, 50.5), (-1e-4, 1e-4)
    ra, dec = (
        SkyCoord(30 * u.deg, 40 * u.deg, frame="galactic").icrs.ra.deg,
        SkyCoord(30 * u.deg, 40 * u.deg, frame="galactic").icrs.dec.deg,
    )
    ends = along_great_circle(np.full(2, ra), np.full(2, dec), np.zeros(2), np.array([0.0, 2e-3]))
    placed = place_trails(galactic, (100, 100), ends[0], ends[1], np.array([0.0, 1.0]), ends[2])
    assert (placed.x[0], placed.y[0]) == pytest.approx((49.5, 49.5), abs=1e-3)
    assert np.hypot(placed.x[1] - 49.5, placed.y[1] - 49.5) == pytest.approx(20, abs=1e-2)
