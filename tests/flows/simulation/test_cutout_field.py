import numpy as np
import pytest

from flows.simulation.cutout_field import bled, draw_field
from flows.simulation.cutout_survey import DEEP, ZTF


@pytest.fixture(scope="module")
def field():
    return draw_field(DEEP, 5, 3, 60)


def test_holds_images_and_psfs(field):
    assert field.cutouts.shape == (60, 8, 26, 26)
    assert field.cutouts.dtype == np.float32
    assert np.isfinite(field.cutouts).all()
    assert len(field.rows) == 60
    sums = field.cutouts[:, 4:].sum((2, 3))
    assert ((sums > 0.9) & (sums < 1)).all()


def test_same_seed_same_pixels(field):
    again = draw_field(DEEP, 5, 3, 20)
    np.testing.assert_array_equal(again.cutouts, field.cutouts[:20])
    assert not np.array_equal(draw_field(DEEP, 5, 4, 2).cutouts, field.cutouts[:2])


def test_light_is_that_of_the_truth(field):
    for row, cutout in zip(field.rows, field.cutouts, strict=True):
        if row["label"] == "star" and not row["neighbour"] and row["iMag"] < 21:
            flux = 10 ** (0.4 * (31.4 - row["iMag"]))
            assert (cutout[2] * cutout[6]).sum() / (cutout[6] ** 2).sum() == pytest.approx(flux, rel=0.15)


def test_brightness_does_not_tell_the_classes(field):
    rows = [row for number in range(12) for row in draw_field(ZTF, 6, number, 60).rows]
    stars = [row["iMag"] for row in rows if row["label"] == "star"]
    galaxies = [row["iMag"] for row in rows if row["label"] == "galaxy"]
    assert abs(np.mean(stars) - np.mean(galaxies)) < 4 * 1.65 * np.sqrt(1 / len(stars) + 1 / len(galaxies))


def test_one_band_of_another_survey():
    assert draw_field(ZTF, 1, 0, 3).cutouts.shape == (3, 2, 20, 20)


def test_charge_bleeds_along_its_column_and_none_is_lost():
    light = np.zeros((20, 20))
    light[9:12, 10] = 50, 700, 60
    held = bled(light, 100.0, np.random.default_rng(1))
    assert np.flatnonzero(held.any(0)).tolist() == [10]
    assert held.sum() == pytest.approx(light.sum(), rel=0.05)
    assert ((held[:, 10] > 85) & (held[:, 10] < 115)).sum() == 8
    np.testing.assert_array_equal(bled(light, 1000.0, np.random.default_rng(1)), light)
