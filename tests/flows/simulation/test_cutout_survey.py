import galsim
import numpy as np
import pytest

from flows.simulation.cutout_survey import (
    DEEP,
    MODEL_ERRORS,
    NIGHT,
    ZTF,
    draw_band_psfs,
    pixel_waves,
    render_profiles,
    waves,
)
from tests.support.summary import summary


@pytest.mark.parametrize("survey", [DEEP, NIGHT, ZTF], ids=lambda survey: survey.name)
def test_has_one_value_per_band(survey):
    assert len(survey.bands) == len(survey.seeing) == len(survey.depth) == len(survey.sky)
    assert set(survey.bands) <= set("griz")


def test_is_that_of_the_challenge():
    assert (DEEP.bands, DEEP.side) == ("griz", 26)


def test_those_of_nights_are_what_the_stage_is_given():
    assert (NIGHT.bands, NIGHT.side) == (DEEP.bands, DEEP.side)
    assert NIGHT.psf_error > DEEP.psf_error
    assert NIGHT.seeing[2] / NIGHT.scale < DEEP.seeing[2] / DEEP.scale


@pytest.fixture(scope="module")
def psfs():
    return [draw_band_psfs(DEEP, np.random.default_rng(seed)) for seed in range(12)]


def test_every_band_has_its_own(psfs):
    for field in psfs:
        assert len({one.fwhm for one in field}) == len(DEEP.bands)


def test_seeing_is_about_that_of_the_survey(psfs):
    seen = np.array([[one.fwhm for one in field] for field in psfs])
    np.testing.assert_allclose(np.median(seen, 0), DEEP.seeing, rtol=0.15)


def test_images_hold_nearly_all_light_and_widen(psfs):
    for one in psfs[0]:
        assert one.images.shape == (len(MODEL_ERRORS), DEEP.side, DEEP.side)
        sums = one.images.sum((1, 2))
        assert ((sums > 0.9) & (sums < 1.0)).all()
        peaks = one.images.max((1, 2))
        assert (np.diff(peaks) < 0).all()


def test_a_source_at_the_depth_has_signal_to_noise_5(psfs):
    for one, depth in zip(psfs[0], DEEP.depth, strict=True):
        flux = 10 ** (0.4 * (31.4 - depth))
        snr = flux * np.sqrt((one.images[2].astype(float) ** 2).sum()) / one.sky_sigma
        assert 5 * 10**-0.25 < snr < 5 * 10**0.25  # the depth of a field scatters by 0.15 mag


def test_none_is_symmetric(psfs):
    for one in psfs[0]:
        image = one.images[2][1:, 1:]  # an odd number of pixels about the centre
        assert np.abs(image - image[::-1, ::-1]).max() > 1e-3 * image.max()


@pytest.mark.parametrize("survey", [DEEP, NIGHT], ids=lambda survey: survey.name)
def test_what_is_known_of_the_psf_is_wrong_by_as_much_as_the_survey_says(survey):
    """The peak of a PSF falls with the square of its width, more slowly once it is as narrow as a pixel."""
    middle = survey.side // 2
    peaks = [one.images[:, middle, middle] for one in draw_band_psfs(survey, np.random.default_rng(3))]
    span = np.mean([peak[0] / peak[-1] for peak in peaks]) - 1
    most = ((1 + survey.psf_error) / (1 - survey.psf_error)) ** 2 - 1
    assert 0.6 * most < span <= most


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.3, -0.4), (-5.2, 6.7)])
@pytest.mark.parametrize("side", [20, 26])
def test_draws_what_galsim_draws(side, x, y):
    psf = galsim.Moffat(beta=3.0, fwhm=0.7).shear(g1=0.03, g2=-0.02)
    profile = galsim.Convolve(galsim.Exponential(scale_radius=0.4).shear(g1=0.3, g2=0.1), psf)
    ours = render_profiles(waves(profile, 0.2) * pixel_waves(0.2), side, x, y)
    theirs = profile.drawImage(nx=side, ny=side, scale=0.2, offset=(x + 0.5, y + 0.5)).array
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_transforms_of_psf_and_galaxy_multiply():
    psf, disc = galsim.Kolmogorov(fwhm=0.8), galsim.Exponential(scale_radius=0.5)
    apart = waves(psf, 0.2) * waves(disc, 0.2)
    np.testing.assert_allclose(apart, waves(galsim.Convolve(psf, disc), 0.2), atol=1e-4)


def test_a_seed_stands_for_its_psfs() -> None:
    found = []
    for survey, seed in ((DEEP, 3), (DEEP, 4), (NIGHT, 5), (ZTF, 6)):
        psfs = draw_band_psfs(survey, np.random.default_rng(seed))
        found.append([*summary([[one.fwhm, one.sky_sigma, one.gain] for one in psfs]), 0])
        found.append(summary(np.concatenate([one.images for one in psfs])))
    np.testing.assert_allclose(
        found,
        [
            [12, 183.449239, 0, 8133.7743, 452.785202, 523.589707, 0],
            [13520, 19.8468337, 0, 0.305456666, 208.640412, 278.085273, 277.569711],
            [12, 105.719457, 0, 1732.97141, 278.132391, 286.254337, 0],
            [13520, 19.8845088, 0, 0.515884283, 208.638221, 278.70427, 278.150718],
            [12, 6620.00561, 0, 14000997.5, 20255.4686, 13232.1004, 0],
            [13520, 19.9744296, 0, 1.30392399, 209.600524, 279.510511, 279.908309],
            [3, 1069.71683, 0, 1138698.68, 1069.71683, 2136.9155, 0],
            [2000, 4.95930472, 0, 0.236091887, 14.8769106, 54.4270948, 54.4822825],
        ],
        rtol=1e-6,
    )


def test_a_surveys_numbers_are_those_that_its_sets_were_made_with() -> None:
    found = []
    for one in (DEEP, NIGHT, ZTF):
        scalars = (one.side, one.scale, *one.magnitude, one.galaxies, one.saturation, one.scatter, one.psf_error)
        found.append([summary(part) for part in (scalars, one.seeing, one.depth, one.sky)])
    np.testing.assert_allclose(
        found,
        [
            [
                [8, 69.414, -99, 11401.641, 776.252],
                [4, 2.79, 0, 1.9693, 6.75],
                [4, 103.6, 0, 2684.28, 256.8],
                [4, 83.6, 0, 1751.14, 204.6],
            ],
            [
                [8, 74.182, 0, 1430.51464, 230.794],
                [4, 9.7, 0, 23.53, 24.1],
                [4, 80.9, 0, 1637.25, 200],
                [4, 81.9, 0, 1680.69, 200.4],
            ],
            [
                [8, 66.146, 0, 1105.41874, 217.576],
                [1, 2, 0, 4, 2],
                [1, 20.2, 0, 408.04, 20.2],
                [1, 19.5, 0, 380.25, 19.5],
            ],
        ],
        rtol=1e-6,
    )
