"""What pixels tell of an exposure."""

from dataclasses import replace

import numpy as np
import pytest

from flows.inputs import described as module
from flows.inputs.described import described, few_stars, stars_psf
from flows.pipeline.search_array import ArrayFacts, _raw
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.trail_model import trail_image
from schemas.errors import BadInput
from schemas.exposure import PsfModel
from schemas.pixels import UNUSABLE, WINDOW

SHAPE = (260, 240)


@pytest.fixture(scope="module")
def planes():
    """A noisy difference image, and the stars of a field."""
    rng = np.random.default_rng(4)
    stars = rng.normal(100, 2, SHAPE)
    for x, y, flux in rng.uniform((5, 5, 5e3), (235, 255, 5e4), (70, 3)):
        stars += flux * trail_image(SHAPE, x, y, 0.0, 0.0, moffat_mixture(2.8, 3.0))
    return rng.normal(0, 2, SHAPE).astype(np.float32), stars.astype(np.float32)


@pytest.mark.parametrize("plane", ["science", "template"])
def test_the_psf_is_that_of_the_stars_and_that_of_a_template_says_nothing_of_how_it_varies(planes, plane):
    difference, stars = planes
    given = {"difference": difference, "mask": np.zeros(SHAPE, np.uint16), plane: stars}
    info, _ = described(_raw(given, ArrayFacts()))
    assert info.psf.source == plane
    assert info.psf.fwhm_px == pytest.approx(2.8, abs=0.1)
    assert (info.psf.variation is not None) == (info.psf.ellipticity_err > 0) == (plane == "science")


@pytest.mark.parametrize("beside", ["", "science", "template"])
def test_a_background_far_from_zero_is_in_doubt_unless_the_science_image_is_another(planes, beside):
    difference, stars = planes
    given = {"difference": difference + np.float32(40), "mask": np.zeros(SHAPE, np.uint16)}
    info, _ = described(_raw(given | ({beside: stars} if beside else {}), ArrayFacts()))
    assert ("high_background" in info.flags) == (beside != "science")


@pytest.mark.parametrize(("scale", "differs"), [(1, False), (10, False), (0.1, True), (1e-9, True), (1e6, True)])
def test_a_science_image_with_another_noise_has_a_flag(planes, scale, differs):
    difference, stars = planes
    given = {"difference": difference, "mask": np.zeros(SHAPE, np.uint16), "science": stars * np.float32(scale)}
    assert ("science_differs" in described(_raw(given, ArrayFacts()))[0].flags) is differs


@pytest.mark.parametrize(("times", "differs"), [(1.0, False), (1.4, False), (2.0, True), (0.45, True)])
def test_a_stamp_of_other_pixels_differs_from_the_stars(planes, times, differs):
    difference, stars = planes
    given = {"difference": difference, "mask": np.zeros(SHAPE, np.uint16), "science": stars}
    width = described(_raw(given, ArrayFacts()))[0].psf.fwhm_px
    raw = replace(_raw(given, ArrayFacts()), psf=PsfModel(fwhm_px=times * width, beta=3.0, source="stamp"))
    assert ("psf_differs" in described(raw)[0].flags) is differs


@pytest.mark.parametrize("large", [False, True])
def test_a_background_that_changes_over_the_image_is_made_even_and_told(monkeypatch, large):
    """A scanned image, or one in moonlight: 8 times the noise from one side to the other."""
    rng = np.random.default_rng(4)
    image = rng.normal(0, 2, (1100, 1040)).astype(np.float32)
    sloping = image + np.linspace(-8, 8, 1100, dtype=np.float32)[:, None]
    sloping[5, 5] = np.nan
    mask = np.zeros(image.shape, np.uint16)
    monkeypatch.setattr(module, "is_large", lambda _: large)
    info, planes = described(_raw({"difference": sloping, "mask": mask}, ArrayFacts()))
    assert "uneven_background" in info.flags
    assert info.noise == pytest.approx(2, rel=0.02)
    made = planes["difference"][:]
    assert np.abs(np.delete(made - image, 5, 0)).max() < 0.5
    assert made[5, 5] == np.float32(info.background)
    even, kept = described(_raw({"difference": image, "mask": mask}, ArrayFacts()))
    assert "uneven_background" not in even.flags
    np.testing.assert_array_equal(kept["difference"][:], image)


def image_with(peaks, seed=5, length=0.0):
    """An image with stars, or trails, of some S/N at their peaks."""
    image = np.random.default_rng(seed).normal(0, 2, SHAPE).astype(np.float32)
    for number, peak in enumerate(peaks):
        place = 30.0 + 33 * (number % 6), 40.0 + 60 * (number // 6)
        star = trail_image(SHAPE, *place, length, 0.0, moffat_mixture(3.0, 3.0))
        image += (peak * 2 / star.max() * star).astype(np.float32)
    return image


USABLE = np.ones(SHAPE, bool)


def test_stars_that_are_too_few_are_counted():
    image = image_with((16, 17, 40, 60))
    assert stars_psf({"image": image}, USABLE, None) is None
    assert few_stars({"image": image}, USABLE, None) == (4, 2)
    assert few_stars({"image": image, "science": np.zeros(SHAPE, np.float32)}, USABLE, None) == (4, 2)
    assert stars_psf({"image": image_with([15.0] * 12, length=8.0)}, USABLE, None) is None  # trails are not round


def test_faint_stars_tell_the_psf_within_its_error_where_there_are_no_bright_ones():
    found = [stars_psf({"image": image_with(np.linspace(12, 18, 8), seed)}, USABLE, None) for seed in range(20)]
    pulls = np.array([(one.psf.fwhm_px - 3) / one.psf.fwhm_err for one in found])
    assert np.abs(pulls).max() < 3
    assert 0.2 < np.sqrt(np.mean(pulls**2)) < 1.3
    assert stars_psf({"image": image_with(np.linspace(12, 18, 8))}, USABLE, None, faint=False) is None
    mask = np.zeros(SHAPE, np.uint16)
    info, _ = described(_raw({"difference": image_with(np.linspace(12, 18, 8)), "mask": mask}, ArrayFacts()))
    assert (info.psf.source, "assumed_psf" in info.flags) == ("image", False)


def test_stars_are_sought_where_as_much_as_a_window_is_usable_and_there_is_noise(monkeypatch):
    image, usable = image_with((40, 60))[:240], np.ones((240, 240), bool)
    monkeypatch.setattr(module, "WINDOW", 240)
    assert few_stars({"image": image}, usable, None) == (2, 2)
    usable[0, 0] = False
    assert few_stars({"image": image}, usable, None) == (0, 0)
    monkeypatch.undo()
    assert few_stars({"image": np.full(SHAPE, 7, np.float32)}, USABLE, None) == (0, 0)


@pytest.mark.parametrize(("least", "code"), [(WINDOW * WINDOW, None), (WINDOW * WINDOW - 1, "all_masked")])
def test_an_image_with_the_pixels_of_one_window_is_described(planes, least, code):
    mask = np.full(SHAPE, UNUSABLE, np.uint16)
    mask.flat[:least] = 0
    raw = _raw({"difference": planes[0], "mask": mask}, ArrayFacts())
    if code is None:
        assert described(raw)[0].noise == pytest.approx(2, rel=0.2)
        return
    with pytest.raises(BadInput) as caught:
        described(raw)
    assert caught.value.code == code
