from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.cutout_set import CutoutSet
from flows.simulation.cutout_survey import ZTF
from flows.training.cutout_sets import challenge, simulated
from schemas.errors import BadInput, Misconfigured
from tests.flows.adapters.test_galstar_csv import write as write_galstar


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
