import numpy as np
import pytest

from benchmarks.pictures.morphology_size import (
    OWN_SEEING,
    SURVEYS,
    VIEWS,
    Survey,
    degraded,
    draw,
    half_light_radius,
    row,
)


def gaussian(sigma, side=161):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    light = 200 * np.exp(-(x**2 + y**2) / (2 * sigma**2)) + 10
    return np.repeat(light.round().astype(np.uint8)[..., None], 3, 2)


def width(picture):
    """Standard deviation of a round source, px, by its light above the border."""
    grey = picture.astype(float).mean(2)
    grey = np.clip(grey - np.median(grey[0]), 0, None)
    ny, nx = grey.shape
    r2 = (np.arange(nx) - (nx - 1) / 2) ** 2 + ((np.arange(ny) - (ny - 1) / 2) ** 2)[:, None]
    return np.sqrt((grey * r2).sum() / grey.sum() / 2)


def test_half_of_the_light_of_a_gaussian_lies_within_1_18_sigma():
    assert half_light_radius(gaussian(12.0)) == pytest.approx(1.177 * 12, rel=0.06)
    assert np.isnan(half_light_radius(np.full((40, 40, 3), 9, np.uint8)))


@pytest.mark.parametrize("size", [1.0, 2.0])
def test_a_degraded_picture_has_the_size_and_the_seeing_that_are_asked_for(size):
    survey = Survey(scale=0.2, seeing=0.8)
    picture = gaussian(16.0)
    seen = degraded(picture, 1.177 * 16, size, survey, 1e6, np.random.default_rng(1))
    intrinsic = size * survey.fwhm / 1.177
    own = OWN_SEEING * size * survey.fwhm / (1.177 * 16)
    expected = np.sqrt(intrinsic**2 + (survey.fwhm**2 - own**2) / 2.3548**2)
    assert width(seen) == pytest.approx(expected, rel=0.06)


def test_noise_is_that_of_a_pixel_and_sharper_than_the_picture_itself_there_is_none():
    survey, picture = SURVEYS["Rubin"], gaussian(20.0)
    clean, noisy = (
        degraded(picture, 23.5, 2.0, survey, snr, np.random.default_rng(2)).astype(float) for snr in (1e6, 20.0)
    )
    light = clean[clean.shape[0] // 2, clean.shape[1] // 2].mean() - 10
    assert 0.4 * light / 20 < (noisy - clean).std() < light / 20
    assert degraded(picture, 23.5, 12.0, survey, 10.0, np.random.default_rng(2)) is None


def test_a_row_has_the_recall_of_each_class_and_rows_are_drawn(tmp_path):
    given = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    known = [frozenset({"elliptical"}), frozenset({"spiral"}), frozenset({"spiral"})]
    found = row("ZTF", 2.0, given, known, ("elliptical", "spiral"))
    assert found["recall"] == {"elliptical": 1.0, "spiral": 0.5}
    assert found["accuracy"] == pytest.approx(2 / 3, abs=1e-3)
    draw(
        [found | {"as seen by": "as they are"}, found, found | {"as seen by": "Rubin", "size": 1.0}], tmp_path / "x.png"
    )
    assert (tmp_path / "x.png").stat().st_size > 5000


def test_views_have_as_many_bands_as_their_names_say():
    picture = np.random.default_rng(3).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    seen = {name: view(picture) for name, view in VIEWS.items()}
    assert seen["as they are"] is picture
    assert np.array_equal(seen["red and blue"][..., ::2], picture[..., ::2])
    for name in ("grey", "red"):
        assert (seen[name] == seen[name][..., :1]).all()
