import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from kernels.sky.positions import along_great_circle
from kernels.sky.projection import (
    _near,
    _separation,
    celestial_wcs,
    local_scales,
    pixel_scale,
    pixels_of,
    place_trails,
    sky_trails,
    tangent_offsets,
)
from tests.support.cards import elsewise, gnomonic

SCALE = 1.01 / 3600


def header(matrix, dec=35.0, extra=""):
    names = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
    cards = [f"{name:8}= {value:.15E}" for name, value in zip(names, np.ravel(matrix), strict=True)]
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


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_a_matrix_is_singular_by_its_shape_and_not_by_its_size(size):
    """Axes at 1e-3 rad make an image, if a narrow one; at 1e-9 rad they are one axis."""
    for angle, fits in ((1e-3, True), (1e-9, False), (-1e-3, True), (-1e-9, False)):
        text = header(size * SCALE * np.array([[1.0, np.cos(angle)], [0.0, np.sin(angle)]]))
        if fits:
            assert pixel_scale(celestial_wcs(text)) == pytest.approx(
                size * 1.01 * np.sqrt(abs(np.sin(angle))), rel=1e-6
            )
        else:
            with pytest.raises(ValueError, match="regular matrix"):
                celestial_wcs(text)


@pytest.mark.parametrize("matrix", [NORMAL, FLIPPED, TURNED])
def test_positions_on_the_image_are_those_between_its_borders(matrix):
    wcs, (ny, nx) = celestial_wcs(header(matrix)), SHAPE
    x, y = np.meshgrid(np.linspace(-30, nx + 30, 41), np.linspace(-30, ny + 30, 41))
    x = np.append(x, [-0.6, -0.4, nx - 0.6, nx - 0.4, 50, 50, 50, 50])
    y = np.append(y, [50, 50, 50, 50, -0.6, -0.4, ny - 0.6, ny - 0.4])
    sky = wcs.pixel_to_world(x, y).icrs
    which, there_x, there_y = pixels_of(wcs, SHAPE, sky.ra.deg, sky.dec.deg)
    inside = np.maximum(np.abs(x + 0.5 - nx / 2) - nx / 2, np.abs(y + 0.5 - ny / 2) - ny / 2) < 0
    np.testing.assert_array_equal(which, np.flatnonzero(inside))
    np.testing.assert_allclose(there_x, x[inside], atol=1e-4)
    np.testing.assert_allclose(there_y, y[inside], atol=1e-4)
    assert [len(part) for part in pixels_of(wcs, SHAPE, sky.ra.deg - 90, sky.dec.deg)] == [0, 0, 0]


@pytest.mark.parametrize("matrix", [NORMAL, FLIPPED, TURNED])
def test_pixel_scale_is_the_distance_of_neighbouring_pixels(matrix):
    wcs = celestial_wcs(header(matrix))
    here, there = wcs.pixel_to_world([1499.0, 1500.0], [1400.0, 1400.0])
    assert pixel_scale(wcs) == pytest.approx(here.separation(there).arcsec, rel=2e-3)


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


def trails_placement(n=60, seed=2):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SHAPE[1] - 1, n), rng.uniform(0, SHAPE[0] - 1, n)
    return x, y, rng.uniform(2, 60, n), rng.uniform(0, 180, n)


@pytest.mark.parametrize("matrix", [NORMAL, FLIPPED, TURNED])
@pytest.mark.parametrize("dec", [35.0, -70.0, 89.5])
def test_leads_back_to_the_pixels_that_the_sky_came_from(matrix, dec):
    wcs, (x, y, length, angle) = celestial_wcs(header(matrix, dec)), trails_placement()
    sky = sky_trails(wcs, x, y, length, angle, np.zeros((len(x), 4, 4)))
    placed = place_trails(wcs, SHAPE, sky.ra, sky.dec, sky.length, sky.angle)
    np.testing.assert_allclose(placed.x, x, atol=1e-4)
    np.testing.assert_allclose(placed.y, y, atol=1e-4)
    np.testing.assert_allclose(placed.length, length, rtol=1e-3)
    assert np.abs((placed.angle - angle + 90) % 180 - 90).max() < 0.05


def test_distortion_by_polynomials_is_undone():
    wcs = celestial_wcs(sip())
    x, y, length, angle = trails_placement()
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


@pytest.mark.parametrize("kind", [0, 1])
def test_trails_are_placed_where_the_sky_came_from_whatever_the_axes(kind):
    wcs = elsewise(gnomonic([150.0, 20.0], [150.5, 100.5]))[kind]
    x, y, length, angle = np.array([[10.0, 250.0], [150.0, 30.0], [12.0, 7.0], [25.0, 110.0]])
    sky = sky_trails(wcs, x, y, length, angle, np.zeros((2, 4, 4)))
    placed = place_trails(wcs, (200, 300), sky.ra, sky.dec, sky.length, sky.angle)
    np.testing.assert_allclose(np.stack(placed), [x, y, length, angle], atol=1e-3)


PLAIN = header(SCALE * np.array([[-1.0, 0.0], [0.0, 1.0]])).replace("TPV", "TAN").split("PV1_0")[0]
MIDDLE = np.array([1499.5]), np.array([1399.5])


@pytest.mark.parametrize("length", [0.25, 0.5, 1.0, 1.5, 2.0])
def test_short_trails_have_the_length_of_their_pixels_and_the_angle_of_longer_ones(length):
    sky = sky_trails(celestial_wcs(PLAIN), *MIDDLE, np.array([length]), np.array([70.0]), np.zeros((1, 4, 4)))
    assert sky.length[0] == pytest.approx(1.01 * length, rel=1e-6)
    assert sky.angle[0] == pytest.approx(160, abs=1e-4)


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0, 130.0])
def test_errors_of_length_and_angle_are_those_of_the_projection(angle):
    narrow = PLAIN.replace(f"{-SCALE:.15E}", f"{-2 * SCALE:.15E}")  # twice as long along x
    covariance = np.diag([0.01, 0.01, 0.09, 0.04])[None]
    turned = [
        sky_trails(celestial_wcs(narrow), *MIDDLE, np.array([20.0]), np.array([angle + step]), covariance)
        for step in (-0.01, 0.0, 0.01)
    ]
    slope = abs((turned[2].angle[0] - turned[0].angle[0] + 90) % 180 - 90) / 0.02
    assert turned[1].angle_err[0] == pytest.approx(0.2 * slope, rel=1e-4)
    scale = 1.01 * np.hypot(2 * np.cos(np.radians(angle)), np.sin(np.radians(angle)))
    assert turned[1].length_err[0] == pytest.approx(0.3 * scale, rel=1e-6)
    covariance[0, 3, 3] = 1e6
    unknown = sky_trails(celestial_wcs(narrow), *MIDDLE, np.array([20.0]), np.array([angle]), covariance)
    assert unknown.angle_err[0] == 90


def test_offsets_in_the_tangent_plane_are_those_of_astropy():
    rng = np.random.default_rng(6)
    for ra0, dec0 in ((10.0, 0.0), (200.0, 65.0), (359.9, -40.0)):
        plane = WCS(naxis=2)
        plane.wcs.ctype, plane.wcs.crval, plane.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (ra0, dec0), (1.0, 1.0)
        ra, dec = ra0 + rng.uniform(-25, 25, 30), dec0 + rng.uniform(-20, 20, 30)
        found = tangent_offsets(ra, dec, np.full(30, ra0), np.full(30, dec0))
        np.testing.assert_allclose(found, np.array(plane.all_world2pix(ra, dec, 1)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dec", [-89.5, 0.0, 60.0])
def test_scales_at_a_place_are_those_of_the_projection_about_it(dec):
    wcs = celestial_wcs(header(TURNED, dec))
    x, y = np.array([20.0, 1500.0]), np.array([30.0, 900.0])
    ra, found, matrix = local_scales(wcs, x, y)
    for n in range(2):
        here = wcs.pixel_to_world(x[n], y[n])
        assert (ra[n], found[n]) == pytest.approx((here.ra.deg, here.dec.deg))
        local = WCS(naxis=2)
        local.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        local.wcs.crval, local.wcs.crpix, local.wcs.cd = (ra[n], found[n]), (x[n] + 1, y[n] + 1), matrix[n]
        for dx, dy in ((10, 0), (0, -10), (15, 15)):
            there = wcs.pixel_to_world(x[n] + dx, y[n] + dy)
            assert local.pixel_to_world(x[n] + dx, y[n] + dy).separation(there).arcsec < 1e-3


def test_separations_are_known_from_nothing_to_all_around():
    ra, dec = np.random.default_rng(5).uniform((0, -90), (360, 90), (200, 2)).T
    np.testing.assert_allclose(_separation(ra, dec, (ra + 180) % 360, -dec), 180, atol=1e-5)
    assert not _separation(ra, dec, ra, dec).any()
    expected = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(ra[::-1], dec[::-1], unit="deg")).deg
    np.testing.assert_allclose(_separation(ra, dec, ra[::-1], dec[::-1]), expected, atol=1e-9)


class Told:
    """A WCS that says where positions lie, whatever they are."""

    def __init__(self, x, y):
        self.x, self.y, self.asked = np.array(x), np.array(y), 0
        self.pixel_to_world = celestial_wcs(PLAIN).pixel_to_world

    def world_to_pixel(self, sky):
        self.asked = sky.size
        return self.x[: sky.size], self.y[: sky.size]


BORDER_X = (-0.5, np.nextafter(-0.5, -1), 5.5, np.nextafter(5.5, 0), 2.0, 2.0, 2.0, 2.0)
BORDER_Y = (1.0, 1.0, 1.0, 1.0, -0.5, np.nextafter(-0.5, -1), 3.5, np.nextafter(3.5, 0))
INSIDE = [0, 3, 4, 7]


def test_the_first_border_is_of_the_image_and_the_last_is_not(monkeypatch):
    told = Told(BORDER_X, BORDER_Y)
    sky = told.pixel_to_world(np.full(8, 2.0), np.full(8, 2.0)).icrs
    which, x, y = pixels_of(told, (4, 6), sky.ra.deg, sky.dec.deg)
    assert which.tolist() == INSIDE
    assert (x.tolist(), y.tolist()) == ([BORDER_X[n] for n in INSIDE], [BORDER_Y[n] for n in INSIDE])
    places = iter([(told.x, told.y), (np.zeros(4), np.zeros(4)), (np.ones(4), np.ones(4))])
    monkeypatch.setattr("kernels.sky.projection.positions_in_pixels", lambda *_: next(places))
    placed = place_trails(celestial_wcs(PLAIN), (4, 6), sky.ra.deg, sky.dec.deg, np.ones(8), np.zeros(8))
    assert np.flatnonzero(np.isfinite(placed.x)).tolist() == INSIDE
    np.testing.assert_allclose(placed.angle[INSIDE], 45)
    np.testing.assert_allclose(placed.length[INSIDE], np.sqrt(2))


@pytest.mark.parametrize("turn", [0.0, 90.0, 180.0, 270.0, 33.0])
def test_only_what_is_near_the_image_is_projected(turn):
    wcs, (c, s) = celestial_wcs(PLAIN), (np.cos(np.radians(turn)), np.sin(np.radians(turn)))
    for near, (x0, y0, radius) in (
        (lambda *at: Told([0.0], [0.0]), (2.5, 1.5, np.hypot(3.5, 2.5))),
        (None, (2.5, 1.5, np.hypot(3, 2))),
    ):
        for factor, inside in ((1.19, True), (1.21, False)):
            sky = wcs.pixel_to_world(np.array([x0 + factor * radius * c]), np.array([y0 + factor * radius * s])).icrs
            if near is None:
                assert _near(wcs, (4, 6), sky.ra.deg, sky.dec.deg).tolist() == [inside]
            else:
                told = near()
                pixels_of(told, (4, 6), sky.ra.deg, sky.dec.deg)
                assert told.asked == inside


def test_where_a_distortion_cannot_be_undone_nothing_is_placed():
    text = sip().replace("A_2_0   = 2.0E-06", "A_2_0   = 8.0E-04")  # it folds 625 px left of the middle
    wcs = celestial_wcs(text)
    x, y = np.array([1500.0, 1700.0, 1400.0]), np.full(3, 1400.0)
    beyond = celestial_wcs(sip()).pixel_to_world(np.array([700.0, 900.0]), np.full(2, 1400.0)).icrs
    sky = wcs.pixel_to_world(x, y).icrs
    ra, dec = np.append(sky.ra.deg, beyond.ra.deg), np.append(sky.dec.deg, beyond.dec.deg)
    placed = place_trails(wcs, SHAPE, ra, dec, np.ones(5), np.zeros(5))
    np.testing.assert_allclose(placed.x[:3], x, atol=1e-4)
    assert np.isnan(placed.x[3:]).all()


@pytest.mark.parametrize(("angle", "fits"), [(2.2e-8, True), (1.8e-8, False), (-2.2e-8, True), (-1.8e-8, False)])
def test_axes_are_one_below_two_parts_in_a_hundred_million(angle, fits):
    text = header(SCALE * np.array([[1.0, 1.0], [0.0, angle]]))  # determinant over squared norm: half of the angle
    if fits:
        celestial_wcs(text)
    else:
        with pytest.raises(ValueError, match="regular matrix"):
            celestial_wcs(text)


def test_a_cube_is_no_image():
    cube = "\n".join(card.ljust(80) for card in ("NAXIS   =                    3", "CTYPE3  = 'FREQ'", "CDELT3  = 1.0"))
    with pytest.raises(ValueError, match="WCS"):
        celestial_wcs(PLAIN.rstrip() + "\n" + cube)
