import os
from pathlib import Path

import numpy as np
import pytest

from flows.training.star_tables import (
    STAR_TYPES,
    is_star_table,
    star_sample,
    temperature_and_colour,
    type_temperature,
)
from schemas.errors import BadInput

SMALL = """Temperature,Luminosity,Radius,AbsoluteMagnitude,StarType,StarColor,SpectralClass
39000,204000,10.6,-4.7,3,Blue,O
3042,0.0005,0.1542,16.6,0,Red,M
5800,0.81,0.9,5.05,3,yellow-white,F
"""
LARGE = """Vmag,Plx,e_Plx,B-V,SpType,Amag,TargetClass
8.9,19.06,1.69,0.783,G8V,20.300613,1
7.71,5.1,1.09,1.368,K3III,16.247852,0
8.0,5.0,1.0,0.1,WN6 + O5V,16.0,0
"""


def write(tmp_path, text):
    path = tmp_path / "stars.csv"
    path.write_text(text)
    return path


def test_the_table_with_temperatures(tmp_path):
    path = write(tmp_path, SMALL)
    assert is_star_table(path)
    sample, features = star_sample(path, "star")
    assert [sample.classes[k] for k in sample.code] == ["O", "M", "F"]
    assert features == ("logTemperature", "logLuminosity", "logRadius", "absMag")
    np.testing.assert_allclose(sample.matrix(features)[0], [4.5911, 5.3096, 1.0253, -4.7], rtol=1e-3)
    assert [STAR_TYPES[k] for k in star_sample(path, "kind")[0].code] == [
        "main sequence",
        "brown dwarf",
        "main sequence",
    ]


def test_the_table_with_parallaxes(tmp_path):
    path = write(tmp_path, LARGE)
    sample, features = star_sample(path, "star")
    assert [sample.classes[k] for k in sample.code] == ["G", "K"]
    assert sample.notes["labels_without_class"] == {"WN6 + O5V": 1}
    assert sample.matrix(features)[0].tolist() == pytest.approx([0.783, 8.9, 19.06, 20.300613])
    kinds, _ = star_sample(path, "kind")
    assert [kinds.classes[k] for k in kinds.code] == ["dwarf", "giant", "giant"]


def test_other_labels_are_not_there(tmp_path):
    with pytest.raises(BadInput, match="has no labels for 'superclass'"):
        star_sample(write(tmp_path, SMALL), "superclass")


def test_archive_tables_are_others(tmp_path):
    assert not is_star_table(write(tmp_path, "u,g,r,i,z,class\n"))


def test_temperature_and_the_rank_of_the_colour(tmp_path):
    kelvin, rank, what = temperature_and_colour(write(tmp_path, SMALL))
    assert kelvin.tolist() == [39000, 3042, 5800]
    assert rank.tolist() == [0, 6, 3]
    assert "rank" in what


def test_temperature_of_the_type_and_measured_colour(tmp_path):
    kelvin, colour, _ = temperature_and_colour(write(tmp_path, LARGE))
    assert colour.tolist() == [0.783, 1.368]
    np.testing.assert_allclose(kelvin, [5438, 4260], atol=1)


@pytest.mark.parametrize(
    ("name", "giant", "expected"),
    [("G0V", False, 5930), ("K3III", True, 4260), ("A0III", True, 9700), ("G2.5V", False, 5795)],
)
def test_temperature_scale(name, giant, expected):
    assert type_temperature(name, giant=giant) == pytest.approx(expected, abs=1)
    assert np.isnan(type_temperature("WN6", giant=giant))


@pytest.mark.skipif("NIGHTSTRIDE_DATA" not in os.environ, reason="NIGHTSTRIDE_DATA is not set")
def test_every_colour_of_the_real_table_has_a_rank():
    folder = Path(os.environ["NIGHTSTRIDE_DATA"]) / "03_sdss_tables"
    kelvin, rank, _ = temperature_and_colour(folder / "stars_6class_240.csv")
    assert len(kelvin) == 240
    assert set(rank) == set(range(7))
