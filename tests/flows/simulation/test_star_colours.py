import numpy as np
import pytest

from flows.simulation.star_colours import RUBIN_BANDS, galaxy_colours, star_colours, star_sequence, star_table
from schemas.classes import STELLAR_CLASSES
from tests.support.summary import summary

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


def test_the_colours_of_a_class_are_those_of_the_published_tables() -> None:
    np.testing.assert_allclose(
        [summary(star_sequence(name)) for name in STELLAR_CLASSES],
        [
            [12, 0, -5.3612, 2.53678394, 10.6048, 13.4987],
            [16, 1.37912, -4.48728, 2.61258668, 14.71184, 13.8439],
            [16, 4.88464, -1.614, 6.10592293, 15.67536, 9.89364],
            [16, 5.5793, -0.15002, 5.44763948, 14.692, 7.34738],
            [16, 8.25504, 0, 8.60451002, 21.73996, 12.21504],
            [16, 14.17864, 0, 23.266415, 39.09172, 22.57264],
            [28, 48.63, 0, 99.5191, 213.56, 105.52],
            [43, 2.142, -9.8, 4.039496, 84.489, 28.983],
            [12, 14.27, 0, 27.4177, 30.92, 24.07],
            [24, 52.73, 0, 122.8469, 186.96, 140.7],
        ],
        rtol=1e-8,
    )


def test_johnson_cousins_colours_become_those_of_sdss_as_published() -> None:
    """The Sun's of Pecaut & Mamajek 2013, U-B 0.133, g-r 0.46, Rc-Ic 0.35, by Jester et al. 2005."""
    expected = (1.28 * 0.133 + 1.13, 0.46, 0.91 * 0.35 - 0.20, (1.72 * 0.35 - 0.41) - (0.91 * 0.35 - 0.20))
    assert star_sequence("G")[1] == pytest.approx(expected)


def test_a_seed_stands_for_its_stars_of_all_classes() -> None:
    found = []
    for arguments in ((300, 5), (300, 6, ("d", "M", "A"), 18.0, 22.0)):
        columns, code = star_table(*arguments)
        found += [*(summary(columns[band]) for band in "ugriz"), summary(code)]
    np.testing.assert_allclose(
        found,
        [
            [291, 5367.07491, 0, 100475.201, 810816.227],
            [300, 5183.19551, 0, 90537.4329, 779495.882],
            [300, 5015.65151, 0, 84648.5169, 754057.511],
            [300, 4890.13321, 0, 80754.6518, 735196.641],
            [300, 4787.83195, 0, 78186.9923, 719401.739],
            [270, 1350, 0, 8550, 205650],
            [152, 3293.77257, 0, 71566.53, 511149.831],
            [293, 6220.18034, 0, 132638.116, 925358.964],
            [300, 6044.80633, 0, 122198.338, 908572.796],
            [300, 5662.92467, 0, 107649.129, 852113.889],
            [290, 5066.90354, 0, 90234.6869, 757247.834],
            [200, 300, 0, 500, 45350],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_colours() -> None:
    stars = star_colours(200, np.random.default_rng(3))
    galaxies = galaxy_colours(np.arange(200) % 3 == 0, np.random.default_rng(4))
    found = [summary(one[band]) for one in (stars, galaxies) for band in RUBIN_BANDS]
    np.testing.assert_allclose(
        found,
        [
            [200, 599.765151, 0, 1970.22598, 59481.9844],
            [200, 203.446797, 0, 240.498879, 20095.9697],
            [0, 0, 0, 0, 0],
            [200, 0.0469748606, -116.010315, 111.831035, 11664.2769],
            [200, 0.115193897, -175.904648, 262.107461, 17708.2427],
            [200, 0.187662999, -205.890174, 360.990395, 20732.3064],
            [200, 417.23219, 0, 917.808467, 41586.4463],
            [200, 129.543809, 0, 93.9462018, 12755.998],
            [0, 0, 0, 0, 0],
            [200, 0, -60.6174913, 19.9192835, 6055.1675],
            [200, 0, -97.0021696, 51.9828073, 9704.36118],
            [200, 0, -118.832977, 79.1505588, 11893.8774],
        ],
        rtol=1e-6,
    )
