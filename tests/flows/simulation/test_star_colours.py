import numpy as np
import pytest

from flows.simulation.star_colours import star_sequence, star_table
from schemas.classes import STELLAR_CLASSES

LOCUS = {"A": (1.1, -0.15), "F": (1.15, 0.25), "G": (1.4, 0.48), "K": (2.2, 0.9), "M": (2.6, 1.45)}
"""u-g and g-r in the middle of each class, by eye from the SDSS stellar locus (Covey et al. 2007, AJ 134, 2398)."""


@pytest.mark.parametrize("name", LOCUS)
def test_the_sequence_lies_on_the_stellar_locus(name):
    middle = star_sequence(name).mean(0)
    np.testing.assert_allclose(middle[:2], LOCUS[name], atol=0.25)


def test_types_get_redder_from_o_to_m():
    reddest = [star_sequence(name)[-1, 1] for name in "OBAFGKM"]
    assert (np.diff(reddest) > 0).all()


def test_the_sun():
    """G2: u-g 1.43, g-r 0.44, r-i 0.11, i-z 0.03 (SDSS, colours of the Sun); a table of dwarfs is that close."""
    np.testing.assert_allclose(star_sequence("G")[1], (1.43, 0.44, 0.11, 0.03), atol=0.15)


def test_draws_every_class_alike_and_the_same_again():
    columns, code = star_table(1000, 5)
    assert np.bincount(code).tolist() == [100] * len(STELLAR_CLASSES)
    again, _ = star_table(1000, 5)
    assert all(np.array_equal(columns[band], again[band], equal_nan=True) for band in "ugriz")
    assert not np.array_equal(columns["r"], star_table(1000, 6)[0]["r"])
    assert columns["u"].dtype == np.float32


def test_noise_grows_with_magnitude():
    bright, faint = (star_table(4000, 1, ("A", "G"), magnitude, magnitude)[0] for magnitude in (15.0, 19.5))
    spread = [np.nanstd(one["u"] - one["g"]) for one in (bright, faint)]
    assert spread[1] > spread[0]
    assert np.nanstd(faint["z"] - faint["i"]) > np.nanstd(bright["z"] - bright["i"]) + 0.01


def test_cool_stars_have_no_u():
    columns, code = star_table(4000, 1, faint=21.0)
    lost = np.isnan(columns["u"])
    assert lost[code == STELLAR_CLASSES.index("d")].mean() > 0.2
    assert lost[code == STELLAR_CLASSES.index("A")].mean() == 0
