import numpy as np

from kernels.sky.sharpest import sharpest
from schemas.objects import CENTRE, SIDE
from tests.support.science_night import SHAPE, exposure


def fwhm(info, value):
    return info.model_copy(update={"psf": info.psf.model_copy(update={"fwhm_px": value})})


def chosen(infos, offsets, places, monkeypatch):
    """Visit -> objects cut out of it, and their pixels, with places (x, y) moved on each exposure."""
    moved = iter(offsets)

    def pixels_of(wcs, shape, ra, dec):
        x, y = np.array(places, float).T + np.array(next(moved))[:, None]
        return np.arange(len(x)), x, y

    monkeypatch.setattr("kernels.sky.sharpest.pixels_of", pixels_of)
    none = np.zeros(len(places))
    return {
        info.visit: list(zip(which.tolist(), x.tolist(), y.tolist(), strict=True))
        for info, which, x, y in sharpest(infos, "g", none, none, CENTRE, SIDE - CENTRE)
    }


def test_a_cutout_is_whole_from_half_a_side_within_the_borders_on(monkeypatch):
    sharp, blunt = fwhm(exposure(1, "g"), 2.0), fwhm(exposure(2, "g"), 3.0).model_copy(update={"shape": (900, 900)})
    ny, nx = SHAPE
    low, right, bottom = CENTRE, nx - SIDE + CENTRE, ny - SIDE + CENTRE
    whole = [(low, 80), (80, low), (right, 80), (80, bottom), (low, low), (right, bottom), (low - 0.4, low - 0.4)]
    parts = [(low - 1, 80), (80, low - 1), (right + 1, 80), (80, bottom + 1), (low - 0.6, 80), (80.0, bottom + 0.6)]
    found = chosen([blunt, sharp], [(0, 0), (300, 300)], [*whole, *parts], monkeypatch)
    assert [one[0] for one in found[1]] == list(range(len(whole)))
    assert [one[0] for one in found[2]] == list(range(len(whole), len(whole) + len(parts)))
    assert found[1][0] == (0, low, 80)
    assert found[1][-1] == (6, low, low)
    cut_off = chosen([sharp, blunt], [(0, 0), (-100, -100)], [(3, 80), (nx - 0.51, -0.4)], monkeypatch)
    assert cut_off == {1: [(0, 3, 80), (1, nx - 1, 0)]}


def test_of_equally_sharp_exposures_the_least_noisy_counts_then_the_first(monkeypatch):
    one = exposure(3, "g")
    quiet = one.model_copy(update={"noise": one.noise - 0.1, "visit": 9, "detector": 2})
    for infos, visit in (([one, quiet], 9), ([one, exposure(2, "g")], 2)):
        for order in (infos, infos[::-1]):
            assert list(chosen(order, [(0, 0)] * 2, [(80, 80)], monkeypatch)) == [visit]
    pair = [one.model_copy(update={"detector": 4}), one.model_copy(update={"detector": 1})]
    monkeypatch.setattr(
        "kernels.sky.sharpest.pixels_of", lambda *_: (np.array([0]), np.array([80.0]), np.array([80.0]))
    )
    assert [info.detector for info, *_ in sharpest(pair, "g", np.zeros(1), np.zeros(1), CENTRE, SIDE - CENTRE)] == [1]


def test_exposures_of_other_bands_without_wcs_or_zero_point_do_not_count():
    one = exposure(1, "g")
    others = [exposure(2, "r"), exposure(3, "g", wcs_header=None), exposure(4, "g", zero_point=None)]
    ra, dec = np.array([150.0, 151.0]), np.array([20.0, 20.0])
    (found,) = sharpest([*others, one], "g", ra, dec, 5, 5)
    assert (found.info.visit, found.which.tolist()) == (1, [0])
    assert sharpest(others, "g", ra, dec, 5, 5) == []
