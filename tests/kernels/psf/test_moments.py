import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.psf.moments import adaptive_moments

SIDE = 26


def drawn(profile, x=0.0, y=0.0):
    return (
        profile.drawImage(nx=SIDE, ny=SIDE, scale=1.0, offset=(x, y), method="no_pixel").array[None].astype(np.float32)
    )


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(1.0, 3.5), x=st.floats(-1.5, 1.5), y=st.floats(-1.5, 1.5), flux=st.floats(1, 1e5))
def test_finds_a_gaussian(sigma, x, y, flux):
    found = adaptive_moments(drawn(flux * galsim.Gaussian(sigma=sigma), x, y))
    assert found.sigma[0] == pytest.approx(sigma, rel=0.01)
    assert (found.x[0], found.y[0]) == pytest.approx((x, y), abs=0.02)
    assert found.flux[0] == pytest.approx(flux / 2, rel=0.02)  # a Gaussian under its own weight
    assert found.fourth[0] == pytest.approx(2, abs=0.03)
    assert (found.e1[0], found.e2[0]) == pytest.approx((0, 0), abs=0.01)


@pytest.mark.parametrize(("g1", "g2"), [(0.2, 0.0), (0.0, 0.2), (-0.1, 0.1)])
def test_shape_points_as_the_profile_does(g1, g2):
    image = drawn(galsim.Gaussian(sigma=2.0).shear(g1=g1, g2=g2))
    found = adaptive_moments(image)
    assert np.sign(np.round([found.e1[0], found.e2[0]], 3)).tolist() == np.sign([g1, g2]).tolist()
    theirs = galsim.hsm.FindAdaptiveMom(galsim.Image(image[0]))
    assert found.sigma[0] == pytest.approx(theirs.moments_sigma, rel=0.05)


def test_wings_raise_the_fourth_moment():
    peaked = adaptive_moments(drawn(galsim.Moffat(beta=2.2, fwhm=4.0)))
    assert peaked.fourth[0] > 2.1


def test_nothing_has_no_flux():
    found = adaptive_moments(np.stack([np.zeros((SIDE, SIDE)), -np.ones((SIDE, SIDE))]).astype(np.float32))
    assert (found.flux <= 0).all()
    assert all(np.isfinite(one).all() for one in found)


def test_a_neighbour_at_the_edge_does_not_move_it():
    alone = drawn(galsim.Gaussian(sigma=1.5))
    beside = alone + drawn(galsim.Gaussian(sigma=1.5), 9, 9)
    one, other = adaptive_moments(alone), adaptive_moments(beside)
    assert other.sigma[0] == pytest.approx(one.sigma[0], rel=0.02)


def sums(image, x, y, variance):
    """Moments of the image times a round Gaussian about (x, y): its sum, and the means of powers."""
    place = np.arange(len(image)) - (len(image) - 1) / 2
    u, v = place - x, (place - y)[:, None]
    light = image.astype(float) * np.exp(-(u**2 + v**2) / (2 * variance))
    powers = (u + 0 * v, v + 0 * u, u**2 + 0 * v, v**2 + 0 * u, u * v, (u**2 + v**2) ** 2)
    return light.sum(), [(light * power).sum() / light.sum() for power in powers]


@pytest.mark.parametrize("side", [25, 26])
@pytest.mark.parametrize(
    ("covariance", "x", "y"),
    [
        ([[2.0, 0.0], [0.0, 2.0]], 0.3, -0.4),
        ([[4.0, 0.0], [0.0, 2.0]], 0.0, 1.0),
        ([[2.5, 0.0], [0.0, 6.0]], -2.6, 0.2),
        ([[3.0, 1.2], [1.2, 2.0]], 1.5, 2.7),
        ([[2.0, -0.9], [-0.9, 3.0]], -0.7, -2.8),
    ],
)
def test_moments_of_an_oval_gaussian_are_those_of_the_integrals(side, covariance, x, y):
    """Source times weight is a Gaussian again; the weight is as wide as the source where it has half its variance."""
    inverse = np.linalg.inv(covariance)
    low, high = 0.5, 20.0
    for _ in range(60):
        weight = (low + high) / 2
        product = np.linalg.inv(inverse + np.eye(2) / weight)
        low, high = (weight, high) if np.trace(product) > weight else (low, weight)
    u, v = np.meshgrid(np.arange(side) - (side - 1) / 2 - x, np.arange(side) - (side - 1) / 2 - y)
    square = inverse[0, 0] * u * u + 2 * inverse[0, 1] * u * v + inverse[1, 1] * v * v
    found = adaptive_moments(100 * np.exp(-square / 2)[None].astype(np.float32))
    assert (found.x[0], found.y[0]) == pytest.approx((x, y), abs=2e-3)
    assert found.sigma[0] == pytest.approx(np.sqrt(weight), rel=2e-3)
    assert found.flux[0] == pytest.approx(100 * 2 * np.pi * np.sqrt(np.linalg.det(product)), rel=4e-3)
    trace = np.trace(product)
    assert found.e1[0] == pytest.approx((product[0, 0] - product[1, 1]) / trace, abs=2e-3)
    assert found.e2[0] == pytest.approx(2 * product[0, 1] / trace, abs=2e-3)
    assert found.fourth[0] == pytest.approx((trace**2 + 2 * np.trace(product @ product)) / weight**2, rel=3e-3)


@pytest.mark.parametrize("side", [25, 26])
def test_moments_are_those_under_the_weight_that_was_found(side):
    noisy = np.random.default_rng(side).normal(0.2, 1, (60, side, side)).astype(np.float32)
    found = adaptive_moments(noisy)
    assert (found.flux > 0).sum() > 40
    for n in np.flatnonzero(found.flux > 0):
        flux, (_, _, xx, yy, xy, r4) = sums(noisy[n], found.x[n], found.y[n], found.sigma[n] ** 2.0)
        assert found.flux[n] == pytest.approx(flux, rel=1e-3, abs=1e-3)
        if xx + yy > 0.3:
            assert found.e1[n] == pytest.approx((xx - yy) / (xx + yy), rel=0.01, abs=0.01)
            assert found.e2[n] == pytest.approx(2 * xy / (xx + yy), rel=0.01, abs=0.01)
            assert found.fourth[n] == pytest.approx(r4 / found.sigma[n] ** 4, rel=0.01, abs=0.01)


def followed(image):
    """Place and width after at most twelve steps from 1.6 px about the middle, each at most a doubling or halving."""
    x, y, variance = 0.0, 0.0, 1.6**2
    for _ in range(12):
        flux, (mx, my, mxx, myy, *_) = sums(image, x, y, variance)
        if flux <= 0:
            break
        x, y = np.clip([x + 2 * mx, y + 2 * my], -3, 3)
        seen, before = (mxx + myy) / 2, variance
        source = 1 / (1 / seen - 1 / before) if 0 < seen < 0.9 * before else np.inf
        variance = np.clip(np.clip(source, before / 2, 2 * before), 0.36, (len(image) / 3) ** 2)
        if abs(variance - before) < 1e-3 * before and abs(mx) + abs(my) < 1e-3:
            break
    return x, y, np.sqrt(variance)


def test_width_and_place_are_approached_in_limited_steps():
    """On noise, where hardly any comes to rest, and on blurred sources between little else."""
    rng = np.random.default_rng(12)
    images = rng.normal(0.15, 1, (80, 25, 25)) * rng.choice([0.05, 1.0], (80, 1, 1))
    for image in images[:60]:
        u, v = np.meshgrid(np.arange(25) - 12 - rng.uniform(-4, 4), np.arange(25) - 12 - rng.uniform(-4, 4))
        image += rng.uniform(1, 4) * np.exp(-(u**2 + v**2) / (2 * rng.uniform(0.5, 6) ** 2))
    images = images.astype(np.float32)
    found = adaptive_moments(images)
    good = np.flatnonzero(found.flux > 0)
    expected = np.array([followed(images[n]) for n in good])
    ours = np.stack([found.x, found.y, found.sigma], 1)[good]
    near = np.isclose(ours, expected, rtol=1e-3, atol=1e-3).all(1)
    assert near.sum() >= len(good) - 1  # the last digit may turn a step


def test_widths_and_places_stay_within_their_limits():
    side = 25
    flat = adaptive_moments(np.ones((1, side, side), np.float32))
    assert flat.sigma[0] == pytest.approx(side / 3)
    narrow = np.zeros((1, side, side), np.float32)
    narrow[0, 12, 12], narrow[0, 12, 11], narrow[0, 12, 13] = 1.0, 0.03, 0.03
    assert adaptive_moments(narrow).sigma[0] == pytest.approx(0.6)
    u = np.arange(side) - 12.0
    far = np.exp(-np.add.outer((u - 5) ** 2, (u + 5) ** 2) / 8).astype(np.float32)
    found = adaptive_moments(np.stack([far, far.T]))
    assert found.x.tolist() == [-3, 3]
    assert found.y.tolist() == [3, -3]


def test_where_there_is_no_source_the_start_is_given_back():
    dark = adaptive_moments(-np.ones((1, 25, 25), np.float32))
    assert dark.flux[0] == pytest.approx(-2 * np.pi * 1.6**2, rel=1e-3)
    assert dark.sigma[0] == pytest.approx(1.6)
    single = np.zeros((1, 25, 25), np.float32)
    single[0, 12, 12] = 5.0  # without a width
    point = adaptive_moments(single)
    assert (point.flux[0], point.sigma[0]) == (0, pytest.approx(1.6))
    for one in (dark, point):
        assert [value[0] for value in (one.x, one.y, one.e1, one.e2, one.fourth)] == [0] * 5
