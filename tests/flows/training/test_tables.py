import os
from pathlib import Path

import numpy as np
import pytest

from flows.training.spectral import SpectralPlan, train_spectral
from flows.training.tables import (
    GALAXY_KINDS,
    HOT_TO_COOL,
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


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (SMALL.replace("StarType", "Type"), "missing_columns", r"columns \['StarType'\]"),
        (SMALL.replace("Temperature", "Teff").replace("SpectralClass", "SpType"), "missing_columns", "'B-V'"),
        (SMALL.replace("10.6", "large"), "bad_columns", r"columns \['Radius'\].*not numbers"),
        (SMALL + "1,2,3\n", "unreadable_table", "a line has 3 values"),
    ],
)
def test_what_is_wrong_with_a_table_of_stars_is_said(tmp_path, text, code, words):
    path = write(tmp_path, text)
    assert is_star_table(path)
    for task in ("kind", "star"):
        with pytest.raises(BadInput, match=words) as error:
            star_sample(path, task)
        assert error.value.code == code


def test_a_star_without_a_known_type_is_none_of_the_first(tmp_path):
    rows = SMALL.replace(",0,Red", ",,Red") + "5800,1,1,5,6,Yellow,G\n"
    sample, _ = star_sample(write(tmp_path, rows), "kind")
    assert sample.code.tolist() == [3, 3]
    assert sample.notes["rows_without_class"] == 2


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


DWARFS = """O5 41400 O9 33300 B0 31400 B2 20600 B5 15700 B8 12300 A0 9700 A5 8100 F0 7220 F5 6550 G0 5930 G5 5660
K0 5290 K2 5100 K5 4440 M0 3850 M2 3560 M5 3060 M9 2380"""
GIANTS = """G0 5910 G5 5150 G8 4960 K0 4810 K1 4640 K2 4510 K3 4260 K4 4080 K5 3950 M0 3850 M2 3720 M5 3420"""


@pytest.mark.parametrize(("scale", "giant"), [(DWARFS, False), (GIANTS, True)])
def test_temperatures_are_those_of_the_published_scales(scale, giant):
    words = scale.split()
    found = [type_temperature(name, giant=giant) for name in words[::2]]
    np.testing.assert_array_equal(found, np.array(words[1::2], float))


def test_giants_from_g0_on_have_a_scale_of_their_own_and_hotter_ones_that_of_dwarfs():
    assert type_temperature("F9III", giant=True) == type_temperature("F9V", giant=False)
    assert type_temperature("G0III", giant=True) == 5910
    assert type_temperature("K2.5III", giant=True) == pytest.approx((4510 + 4260) / 2)


def test_stars_without_a_colour_or_a_temperature_are_left_out(tmp_path):
    path = write(tmp_path, SMALL + "4000,1,1,1,3,Violet,K\n9000,1,1,1,3, Blue  White ,A\n")
    kelvin, rank, _ = temperature_and_colour(path)
    assert kelvin.tolist() == [39000, 3042, 5800, 9000]
    assert rank.tolist() == [0, 6, 3, 1]
    assert HOT_TO_COOL[3] == "yellow-white"
    path = write(tmp_path, LARGE + "8.0,5.0,1.0,,K0V,16.0,1\n8.0,5.0,1.0,0.8,K0V,16.0,1\n")
    kelvin, colour, _ = temperature_and_colour(path)
    assert colour.tolist() == [0.783, 1.368, 0.8]
    assert kelvin[2] == 5290


def test_notes_and_groups_tell_of_every_row(tmp_path):
    sample, features = star_sample(write(tmp_path, LARGE), "star")
    assert features == ("colourBV", "V", "parallax", "reducedMag")
    assert sample.group.tolist() == [0, 1]
    assert (sample.notes["rows"], sample.notes["rows_without_class"]) == (3, 1)
    sample, _ = star_sample(write(tmp_path, SMALL), "star")
    logs = [np.log10([39000, 204000, 10.6]), np.log10([3042, 0.0005, 0.1542]), np.log10([5800, 0.81, 0.9])]
    np.testing.assert_allclose(
        np.stack([sample.columns[f"log{n}"] for n in ("Temperature", "Luminosity", "Radius")], 1), logs, rtol=1e-6
    )
    assert sample.columns["absMag"].tolist() == pytest.approx([-4.7, 16.6, 5.05])
    assert sample.notes["rows_without_class"] == 0


def test_the_archives_word_for_no_value_and_a_radius_of_nothing_are_missing(tmp_path):
    made = table()
    made["u-g"] = np.arange(30) + 0.5  # in this order they are read
    made["ecc"][:3] = [-999.0, -998.9, -999.1]
    made["petroR90_r"][:2] = [0.0, 1e-3]
    made["petroR50_z"][:3], made["petroR90_z"][:3] = [1.0, -9999, 1.0], [4.0, 1.0, -9999]
    sample, features = galaxy_sample(write_galaxy_tables(tmp_path / "a.npy", made), "kind")
    assert sample.columns["ecc"][:3].tolist() == pytest.approx([np.nan, -998.9, np.nan], nan_ok=True)
    assert np.isnan(sample.columns["concentration_r"]).tolist() == [True] + [False] * 29
    assert sample.columns["concentration_r"][1] == pytest.approx(made["petroR50_r"][1] / 1e-3)
    assert sample.columns["concentration_z"][:3].tolist() == pytest.approx([0.25, np.nan, np.nan], nan_ok=True)
    assert (sample.notes["rows"], sample.group.tolist()) == (30, list(range(30)))
    assert set(features) == {
        "colourUG", "colourGR", "colourRI", "colourIZ", "ecc", "m4_u", "m4_g", "m4_r", "m4_i", "m4_z",
        *(f"petroR{share}_{band}" for share in (50, 90) for band in "urz"),
        *(f"concentration_{band}" for band in "urz"),
    }  # fmt: skip


def test_five_unknown_classes_are_named_at_most(tmp_path):
    made = table()
    made["class"][:7] = [f"blob{n}" for n in range(7)]
    path = write_galaxy_tables(tmp_path / "a.npy", made)
    with pytest.raises(BadInput, match=r"has the classes \['blob0', 'blob1', 'blob2', 'blob3', 'blob4'\]"):
        galaxy_sample(path, "kind")
    (tmp_path / "long.csv").write_text("x," * 2047 + "yz,SpType\n")  # beyond the bytes that a header may have
    assert not is_star_table(tmp_path / "long.csv")
