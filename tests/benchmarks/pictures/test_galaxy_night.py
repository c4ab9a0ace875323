import csv

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.pictures import galaxy_night as module
from benchmarks.pictures.galaxy_night import TRUTH, linear, put, seen
from tests.support.cards import gnomonic


def picture(sigma=12.0, side=161):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    light = 8 * np.exp(-(x**2 + y**2) / (2 * sigma**2))
    levels = 255 * np.arcsinh(light) / 3
    return np.repeat(np.clip(levels, 0, 255).round().astype(np.uint8)[..., None], 3, 2)


def test_a_stretched_picture_is_linear_again():
    light = linear(picture(sigma=14.0), 1.1774 * 14)[..., 0]
    along = light[80, 80:]
    assert along[14] / along[0] == pytest.approx(np.exp(-0.5), rel=0.2)
    assert light[0, 0] == 0
    assert np.sum(light > 0) < light.size


def test_what_is_seen_has_the_width_of_the_galaxy_and_the_seeing():
    y, x = np.mgrid[:161, :161] - 80.0
    light = np.exp(-(x**2 + y**2) / (2 * 15.0**2))
    found = seen(light, 1.1774 * 15, 8.0, 2.5)
    ny, nx = found.shape
    r2 = (np.arange(ny)[:, None] - (ny - 1) / 2) ** 2 + (np.arange(nx) - (nx - 1) / 2) ** 2
    assert np.sqrt((found * r2).sum() / found.sum() / 2) == pytest.approx(np.hypot(8 / 1.1774, 2.5 / 2.3548), rel=0.06)


def test_galaxies_are_put_at_the_places_that_are_told(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    wcs = gnomonic([150.0, 20.0], [200.5, 200.5])
    header = wcs.to_header()
    header.update({"FILTER": "ZTF_r", "SEEING": 2.0, "GAIN": 6.0, "MAGZP": 26.0})
    noise = np.random.default_rng(1).normal(0, 5, (400, 400)).astype(np.float32)
    noise[:9] = np.nan
    fits.writeto(tmp_path / "raw/a_sciimg.fits", noise, header)
    monkeypatch.setattr(module, "unseen_pictures", lambda data: ([picture()] * 3, [frozenset({"spiral"})] * 3))
    assert put(tmp_path, [], 4.0, 20.0, 1) == 3
    with (tmp_path / TRUTH).open() as file:
        truth = list(csv.DictReader(file))
    image = fits.getdata(tmp_path / "raw/a_sciimg.fits")
    x, y = wcs.all_world2pix([float(one["ra"]) for one in truth], [float(one["dec"]) for one in truth], 0)
    assert [one["label"] for one in truth] == ["spiral"] * 3
    for column, row in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        core = image[row - 5 : row + 6, column - 5 : column + 6]
        assert core.mean() == pytest.approx(100, rel=0.5)
    assert np.nanmedian(image) == pytest.approx(0, abs=1)
