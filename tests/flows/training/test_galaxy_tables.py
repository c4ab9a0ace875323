import os
from pathlib import Path

import numpy as np
import pytest

from flows.training.galaxy_tables import GALAXY_KINDS, galaxy_sample, is_galaxy_table
from flows.training.spectral_train import SpectralPlan, train_spectral
from schemas.errors import BadInput

RADII = [f"petroR{share}_{band}" for share in (50, 90) for band in "urz"]
NAMES = ["u-g", "g-r", "r-i", "i-z", "ecc", *(f"m4_{band}" for band in "ugriz"), *RADII]


def table(rows=30, seed=1):
    rng = np.random.default_rng(seed)
    made = np.zeros(rows, [(name, "f8") for name in NAMES] + [("class", "U20")])
    for name in NAMES:
        made[name] = rng.uniform(0.5, 3, rows)
    made["class"] = np.array(GALAXY_KINDS)[np.arange(rows) % 3]
    return made


def write(path, rows):
    np.save(path, rows)
    return path


def test_reads_colours_shapes_and_concentrations(tmp_path):
    made = table()
    made["m4_u"][4] = -9999
    path = write(tmp_path / "galaxies.npy", np.concatenate([made, made[:3]]))
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
    path = write(tmp_path / "a.npy", made)
    with pytest.raises(BadInput, match="no labels for 'galaxy'"):
        galaxy_sample(path, "galaxy")
    with pytest.raises(BadInput, match=r"columns \['ecc', 'm4_u'\]"):
        galaxy_sample(
            write(tmp_path / "b.npy", made[[name for name in made.dtype.names if name not in ("ecc", "m4_u")]]), "kind"
        )
    made["class"][3] = "blob"
    with pytest.raises(BadInput, match=r"has the classes \['blob'\]"):
        galaxy_sample(write(tmp_path / "c.npy", made), "kind")
    with pytest.raises(BadInput, match=r"is \(0,\), not one axis"):
        galaxy_sample(write(tmp_path / "e.npy", made[:0]), "kind")
    with pytest.raises(BadInput, match=r"is \(2, 3\), not one axis"):
        galaxy_sample(write(tmp_path / "f.npy", np.zeros((2, 3))), "kind")
    np.savez(tmp_path / "g.npz", table=made)
    with pytest.raises(BadInput, match="is NpzFile, not one axis"):
        galaxy_sample((tmp_path / "g.npz").rename(tmp_path / "g.npy"), "kind")
    text = made.astype([(name, "U8" if name == "ecc" else kind) for name, kind in made.dtype.descr])
    with pytest.raises(BadInput, match=r"columns \['ecc'\]: are not numbers"):
        galaxy_sample(write(tmp_path / "h.npy", text), "kind")
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
