from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.simulation.presets import PRESETS, Preset, crowded, find_preset, random_stream
from schemas.errors import Misconfigured
from tests.support.summary import summary


def test_presets_are_what_the_surveys_are() -> None:
    ztf, llnl, rubin = (find_preset(name) for name in ("ztf", "llnl", "rubin"))
    assert ztf.shape == llnl.shape == (3080, 3072)
    assert rubin.shape == (4000, 4072)
    assert (ztf.pixel_scale, rubin.pixel_scale) == (1.012, 0.2)
    assert (ztf.lengths, ztf.snr) == ((1, 60), (3, 50))
    assert (llnl.lengths, llnl.magnitudes, llnl.streaks) == ((1, 3), (15, 18.8), 20)


@pytest.mark.parametrize("name", PRESETS)
def test_a_smaller_image_has_as_many_asteroids_and_less_of_all_else(name: str) -> None:
    ny, nx = PRESETS[name].shape
    half = find_preset(name, shape=(ny // 2, nx // 2))
    assert half.streaks == PRESETS[name].streaks
    assert half.area == pytest.approx(0.25, rel=1e-3)


def test_a_preset_stands_for_itself() -> None:
    empty = find_preset("ztf", streaks=0)
    assert empty.streaks == 0
    assert find_preset(empty) == empty


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (("lsst",), "unknown_preset", "choose one of llnl, ztf, rubin, decam"),
        (("ztf", -1), "bad_streaks", "give 0 or more"),
        (("ztf", None, (3081, 100)), "bad_size", "give NY NX within them"),
        (("ztf", None, (63, 100)), "bad_size", "give NY NX within them"),
        (("ztf", None, None, None, "hotpants"), "bad_subtraction", "choose of none, zogy, convolution, sfft, mixed"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: tuple, code: str, remedy: str) -> None:
    with pytest.raises(Misconfigured, match=remedy) as caught:
        find_preset(*arguments)
    assert caught.value.code == code


def test_a_night_in_several_bands_leaves_the_others_as_they_are():
    plain, bands = find_preset("ztf"), find_preset("ztf", bands=("g", "r", "i"))
    assert (plain.field_bands, plain.galaxies, plain.visits_per_field) == ((), (0.0, 0.0), 3)
    assert bands.visits_per_field == 9
    assert bands.galaxies[0] > 0
    assert find_preset("rubin", bands=("u", "y")).field_bands == ("u", "y")


@pytest.mark.parametrize("bands", [(), ("g", "g"), ("u",), ("g", "w"), ("g", "r", "i", "z")])
def test_refuses_bands_that_the_camera_does_not_have(bands):
    with pytest.raises(Misconfigured, match="--bands"):
        find_preset("ztf", bands=bands)


keys = st.tuples(st.integers(0, 2**31), st.integers(0, 1000), st.integers(0, 200))


@given(keys)
def test_same_purpose_and_key_same_numbers(key: tuple[int, int, int]) -> None:
    assert np.array_equal(random_stream("stars", *key).uniform(size=4), random_stream("stars", *key).uniform(size=4))


@given(keys, keys)
def test_other_key_or_purpose_other_numbers(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    drawn = random_stream("stars", *one).uniform(size=4)
    assert not np.array_equal(drawn, random_stream("noise", *one).uniform(size=4))
    assert np.array_equal(drawn, random_stream("stars", *other).uniform(size=4)) == (one == other)


def figures(preset: Preset) -> list[float]:
    values = [value for value in astuple(preset) if value is not None and not isinstance(value, str)]
    flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return [value for value in flat if not isinstance(value, str)]


def test_the_numbers_of_a_preset_are_those_that_figures_were_measured_with() -> None:
    found = [
        summary(figures(preset))
        for preset in (*PRESETS.values(), *(find_preset(name, bands=("g",)) for name in PRESETS))
    ]
    np.testing.assert_allclose(
        found,
        [
            [43, 75231.242, 0, 2.53593886e09, 835923.5],
            [42, 75311.042, 0, 2.53594447e09, 837627.8],
            [43, 80675.2, 0, 3.67250439e09, 701938.6],
            [43, 196371.413, 0, 3.24474715e10, 1757581.86],
            [45, 77631.242, 0, 2.53913886e09, 947923.5],
            [44, 77711.042, 0, 2.53914447e09, 949627.8],
            [45, 87674.55, 0, 3.69900439e09, 1028407.4],
            [45, 201370.863, 0, 3.24609515e10, 1990755.46],
        ],
        rtol=1e-8,
    )


def test_a_crowded_preset_has_more_of_all_but_asteroids() -> None:
    plain, full = find_preset("ztf"), crowded(find_preset("ztf"), 3.0)
    more = {
        "stars": (12_000, 27_000), "variables": (60, 180), "cosmic_rays": (120, 360), "bad_columns": (6, 27),
        "hot_pixels": (180, 600), "ghosts": (0, 12),
    }  # fmt: skip
    assert full == replace(plain, **more)


@pytest.mark.parametrize("shape", [(64, 100), (100, 64), (64, 64), (3080, 3072)])
def test_sizes_from_64_px_to_the_whole_camera_are_there(shape: tuple[int, int]) -> None:
    assert find_preset("ztf", shape=shape).shape == shape


@pytest.mark.parametrize("shape", [(63, 100), (100, 63), (3081, 100), (100, 3073)])
def test_other_sizes_are_not(shape: tuple[int, int]) -> None:
    with pytest.raises(Misconfigured, match="--size"):
        find_preset("ztf", shape=shape)


def test_a_field_is_visited_three_times_in_each_band() -> None:
    assert find_preset("rubin", bands=("u",)).visits_per_field == 3
    assert find_preset("rubin", bands=("u", "g", "r", "i", "z", "y")).visits_per_field == 18
    with pytest.raises(Misconfigured, match="--bands"):
        find_preset("rubin", bands=("u", "u", "w"))
