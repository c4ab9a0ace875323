import numpy as np
import pytest

from flows.simulation.colours import BANDS, galaxy_colours, star_colours


def test_stars_lie_along_the_locus():
    found = star_colours(20_000, np.random.default_rng(1))
    assert set(found) == set(BANDS)
    assert not found["r"].any()
    gr, ri = found["g"], -found["i"]
    blue = gr < 1.2
    slope, offset = np.polyfit(gr[blue], ri[blue], 1)
    assert (slope, offset) == pytest.approx((0.42, -0.06), abs=0.02)
    assert gr[ri > 0.8].mean() == pytest.approx(1.42, abs=0.02)  # M dwarfs differ in r - i, not in g - r


def test_early_galaxies_are_redder():
    early = np.arange(4000) % 2 == 0
    found = galaxy_colours(early, np.random.default_rng(1))
    for blue, red in (("u", "g"), ("g", "r"), ("r", "i"), ("i", "z")):
        colour = found[blue] - found[red]
        assert colour[early].mean() > colour[~early].mean() + 0.1
