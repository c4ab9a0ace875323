import numpy as np
import pytest

from flows.simulation.cutout_psf import MODEL_ERRORS, draw_psfs
from flows.simulation.cutout_survey import DEEP, NIGHT


@pytest.fixture(scope="module")
def psfs():
    return [draw_psfs(DEEP, np.random.default_rng(seed)) for seed in range(12)]


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
    peaks = [one.images[:, middle, middle] for one in draw_psfs(survey, np.random.default_rng(3))]
    span = np.mean([peak[0] / peak[-1] for peak in peaks]) - 1
    most = ((1 + survey.psf_error) / (1 - survey.psf_error)) ** 2 - 1
    assert 0.6 * most < span <= most
