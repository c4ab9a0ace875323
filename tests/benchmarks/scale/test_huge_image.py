import numpy as np
import pytest
from astropy.io import fits

from benchmarks.scale.huge_image import BAND, PSF, lights, measure, satellite, write_image, write_mask
from kernels.trails.trail_model import trail_image


def test_an_image_written_by_rows_is_that_drawn_at_once(tmp_path):
    side = 700
    streaks, stars = lights(side, pixels_each=90_000)
    some = [*streaks, *stars, satellite(side)]
    assert len(streaks) > 2
    write_image(tmp_path / "dark.fits", side, [])
    write_image(tmp_path / "light.fits", side, some)
    dark, light = (fits.getdata(tmp_path / f"{name}.fits") for name in ("dark", "light"))
    drawn = sum(trail_image((side, side), one.x, one.y, one.length, one.angle, PSF) for one in some[:1])
    flux = float(((light - dark) * drawn).sum() / np.square(drawn).sum())
    near = drawn > 1e-3 * drawn.max()
    np.testing.assert_allclose((light - dark)[near], flux * drawn[near], atol=0.02 * flux * drawn.max())
    assert dark.std() == pytest.approx(8.0, rel=0.01)
    write_mask(tmp_path / "mask.fits", side)
    mask = fits.getdata(tmp_path / "mask.fits")
    assert mask.sum() == mask[:, side // 3].sum() == side


def test_streaks_lie_where_bands_and_tiles_meet():
    streaks, _ = lights(30_000)
    on_rows = sum(one.y % BAND == 0 for one in streaks)
    assert len(streaks) > 200 > on_rows > 30


@pytest.mark.slow
def test_an_image_larger_than_is_done_whole_is_searched_within_the_memory(tmp_path):
    report = measure(tmp_path, side=6200, memory=1.5, workers=1)
    assert 500 < report["peak of a worker, MiB"] < 1536
    assert report["found"] >= 0.8 * report["streaks"] > 5
    assert report["found twice"] == 0
    assert report["classed as satellite"] == 1
