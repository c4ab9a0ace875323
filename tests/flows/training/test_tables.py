import os
from pathlib import Path

import numpy as np
import pytest

from flows.training.spectral import SpectralPlan, train_spectral
from flows.training.tables import (
    GALAXY_KINDS,
    STAR_TYPES,
    galaxy_sample,
    is_galaxy_table,
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


RADII = [f"petroR{share}_{band}" for share in (50, 90) for band in "urz"]
NAMES = ["u-g", "g-r", "r-i", "i-z", "ecc", *(f"m4_{band}" for band in "ugriz"), *RADII]


def table(rows=30, seed=1):
    rng = np.random.default_rng(seed)
    made = np.zeros(rows, [(name, "f8") for name in NAMES] + [("class", "U20")])
    for name in NAMES:
        made[name] = rng.uniform(0.5, 3, rows)
    made["class"] = np.array(GALAXY_KINDS)[np.arange(rows) % 3]
    return made


def write_galaxy_tables(path, rows):
    np.save(path, rows)
    return path


def test_reads_colours_shapes_and_concentrations(tmp_path):
    made = table()
    made["m4_u"][4] = -9999
    path = write_galaxy_tables(tmp_path / "galaxies.npy", np.concatenate([made, made[:3]]))
    assert is_galaxy_table(path)
    sample, features = galaxy_sample(path, "kind")
    assert len(sample.code) == 30  # what is there twice counts once
    assert len(features) == len(NAMES) + 3
    matrix = sample.matrix(features)
    (row,) = np.flatnonzero(np.isclose(matrix[:, features.index("colourUG")], made["u-g"][7]))
    assert sample.classes[sample.code[row]] == made["class"][7]
    ratio = made["petroR50_r"][7] / made["petroR90_r"][7]
    assert matrix[row, features.index("concentration_r")] == pytest.approx(ratio, rel=1e-5)
    assert np.isnan(matrix[:, features.index("m4_u")]).sum() == 1


def test_says_what_is_wrong(tmp_path):
    made = table()
    path = write_galaxy_tables(tmp_path / "a.npy", made)
    with pytest.raises(BadInput, match="no labels for 'galaxy'"):
        galaxy_sample(path, "galaxy")
    with pytest.raises(BadInput, match=r"columns \['ecc', 'm4_u'\]"):
        galaxy_sample(
            write_galaxy_tables(
                tmp_path / "b.npy", made[[name for name in made.dtype.names if name not in ("ecc", "m4_u")]]
            ),
            "kind",
        )
    made["class"][3] = "blob"
    with pytest.raises(BadInput, match=r"has the classes \['blob'\]"):
        galaxy_sample(write_galaxy_tables(tmp_path / "c.npy", made), "kind")
    with pytest.raises(BadInput, match=r"is \(0,\), not one axis"):
        galaxy_sample(write_galaxy_tables(tmp_path / "e.npy", made[:0]), "kind")
    with pytest.raises(BadInput, match=r"is \(2, 3\), not one axis"):
        galaxy_sample(write_galaxy_tables(tmp_path / "f.npy", np.zeros((2, 3))), "kind")
    np.savez(tmp_path / "g.npz", table=made)
    with pytest.raises(BadInput, match="is NpzFile, not one axis"):
        galaxy_sample((tmp_path / "g.npz").rename(tmp_path / "g.npy"), "kind")
    text = made.astype([(name, "U8" if name == "ecc" else kind) for name, kind in made.dtype.descr])
    with pytest.raises(BadInput, match=r"columns \['ecc'\]: are not numbers"):
        galaxy_sample(write_galaxy_tables(tmp_path / "h.npy", text), "kind")
    (tmp_path / "d.npy").write_text("no array")
    with pytest.raises(BadInput, match="not an array that can be read"):
        galaxy_sample(tmp_path / "d.npy", "kind")


@pytest.mark.skipif("NIGHTSTRIDE_DATA" not in os.environ, reason="NIGHTSTRIDE_DATA is not set: no real tables")
def test_tells_kinds_of_real_galaxies_better_than_the_nearest_mean(tmp_path):
    path = Path(os.environ["NIGHTSTRIDE_DATA"]) / "04_galaxy_zoo/galaxy_catalogue.npy"
    plan = SpectralPlan("kind", "n5", "none", 20, None, None, ("nearest_colour", "forest"), 0, None, 1)
    found = train_spectral(path, tmp_path, plan, lambda line: None)
    assert found["rows_per_class"] == {"elliptical": 260, "merger": 260, "spiral": 260}
    scores = {one["model"]: one["validation"]["accuracy"] for one in found["comparison"]}
    assert scores["forest"] > scores["nearest_colour"] + 0.03
