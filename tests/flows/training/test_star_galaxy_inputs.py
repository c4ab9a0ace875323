from dataclasses import replace

import numpy as np
import pytest
import torch

from flows.simulation.cutout_set import CutoutSet
from flows.simulation.cutout_survey import ZTF
from flows.training.star_galaxy_inputs import (
    CONFIGURATIONS,
    challenge,
    chosen_bands,
    hide_bands,
    simulated,
    standardised,
    views_of,
)
from schemas.errors import BadInput, Misconfigured
from tests.flows.inputs.test_cutout_files import write_galstar_csv as write_galstar
from tests.support.star_galaxy import cutouts, sample


def test_configurations_are_those_of_the_source():
    assert list(CONFIGURATIONS.values()) == [tuple(range(8)), (0, 1, 2, 3), (0, 4), (1, 5), (2, 6), (3, 7)]


def test_every_plane_is_z_scored():
    given = cutouts(1).cutouts.copy()
    given[0, 1] = np.nan
    given[1, 2] = 4.0
    made = standardised(given).float()
    assert (made[0, 1] == 0).all()
    assert (made[1, 2] == 0).all()
    rest = made[5:]
    torch.testing.assert_close(rest.mean((2, 3)), torch.zeros(45, 8), atol=2e-3, rtol=0)
    torch.testing.assert_close(rest.std((2, 3), correction=0), torch.ones(45, 8), atol=5e-3, rtol=0)


def test_views_are_joined_in_order():
    data = cutouts(1)
    whole, part = views_of(data, 4, 26), views_of(data.take(np.array([7])), 4, 26)
    torch.testing.assert_close(whole[1][7:8], part[1])
    assert whole[0].dtype == torch.float16


def test_hides_bands_but_never_all():
    inputs = sample(cutouts(4)).inputs
    *_, usable, has_psf = hide_bands(inputs, torch.Generator().manual_seed(1))
    assert usable.any(1).all()
    assert 0.3 < usable.all(1).float().mean() < 0.6
    assert 0.5 < usable.float().mean() < 0.85
    assert not (has_psf & ~usable).any()
    assert 0.1 < (~has_psf.any(1)).float().mean() < 0.45


def test_chooses_planes():
    inputs = sample(cutouts(1)).inputs
    *_, usable, has_psf = chosen_bands(inputs, CONFIGURATIONS["(2,6)"])
    assert usable.all(0).tolist() == has_psf.all(0).tolist() == [False, False, True, False]
    *_, usable, has_psf = chosen_bands(inputs, CONFIGURATIONS["0-3"])
    assert usable.all()
    assert not has_psf.any()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    wanted = CutoutSet(ZTF, 1, 1000, tmp_path_factory.mktemp("work") / "ztf")
    said: list[str] = []
    sets = simulated(wanted, 1, said.append)
    assert said == ["1000 cutouts like ztf"]
    assert {split: len(data) for split, data in sets.items()} == {"train": 700, "validation": 100, "test": 200}
    return wanted


def test_what_is_there_is_used_again(made):
    before = {path: path.stat().st_mtime_ns for path in made.folder.iterdir()}
    said: list[str] = []
    assert len(simulated(made, 1, said.append)["train"]) == 700
    assert said == []
    assert {path: path.stat().st_mtime_ns for path in made.folder.iterdir()} == before


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"count": 2000}, {"survey": replace(ZTF, seeing=(3.0,))}], ids=["seed", "count", "survey"]
)
def test_cutouts_of_another_plan_are_refused(made, other):
    with pytest.raises(Misconfigured, match=r"holds other cutouts .* To fix, remove it, or name another") as error:
        simulated(replace(made, **other), 1, print)
    assert str(made.folder) in str(error.value)
    assert "count 1000, seed 1" in str(error.value)


def test_cutouts_that_do_not_say_what_they_are_are_refused(made):
    about = made.folder / "dataset.json"
    content = about.read_text()
    try:
        for text in ("", "[]"):
            about.write_text(text)
            with pytest.raises(Misconfigured, match="of which nothing is known"):
                simulated(made, 1, print)
        about.unlink()
        with pytest.raises(Misconfigured, match="of which nothing is known"):
            simulated(made, 1, print)
    finally:
        about.write_text(content)


def test_a_set_that_was_not_finished_is_made_again(tmp_path):
    wanted = CutoutSet(ZTF, 3, 1000, tmp_path)
    simulated(wanted, 1, lambda line: None)
    (tmp_path / "truth.parquet").unlink()
    said: list[str] = []
    assert len(simulated(replace(wanted, seed=4), 1, said.append)["test"]) == 200
    assert said == ["1000 cutouts like ztf"]


def test_the_challenge_is_split_by_row_and_no_row_is_lost(tmp_path):
    pixels = write_galstar(tmp_path / "galstar.csv", 20)
    sets = challenge(tmp_path / "galstar.csv", 3)
    assert {split: len(data) for split, data in sets.items()} == {"train": 14, "validation": 2, "test": 4}
    rows = np.concatenate([data.group for data in sets.values()])
    assert sorted(rows) == list(range(20))
    assert rows.tolist() != sorted(rows)
    for data in sets.values():
        np.testing.assert_array_equal(data.cutouts.reshape(len(data), -1), pixels[data.group])
    again = challenge(tmp_path / "galstar.csv", 3)
    np.testing.assert_array_equal(again["test"].group, sets["test"].group)
    write_galstar(tmp_path / "few.csv", 5)
    with pytest.raises(BadInput, match="of its 5 rows 0 are for validation"):
        challenge(tmp_path / "few.csv", 3)
    with pytest.raises(BadInput, match="does not exist"):
        challenge(tmp_path / "none.csv", 3)
