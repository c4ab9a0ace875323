from dataclasses import replace

import numpy as np
import pytest
import torch

from flows.simulation.cutout_set import CutoutSet
from flows.simulation.cutout_survey import ZTF
from flows.training import star_galaxy_inputs
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


def test_known_pixels_alone_decide_mean_and_spread():
    given = np.random.default_rng(1).normal(50, 7, (3, 2, 6, 6)).astype(np.float32)
    given[0, 0, :2] = np.nan
    given[1, 1] = 3.0
    given[1, 1, 0, 0] = np.nan
    given[2, 0] = np.nan
    given[2, 0, 3, 3] = 8.0
    made = standardised(given).numpy()
    assert made.dtype == np.float16
    known = np.isfinite(given)
    assert (made[~known] == 0).all()
    for n, plane in ((0, 0), (0, 1), (1, 0), (2, 1)):
        values = given[n, plane][known[n, plane]]
        np.testing.assert_allclose(made[n, plane][known[n, plane]], (values - values.mean()) / values.std(), atol=3e-3)
    assert (made[1, 1] == 0).all()
    assert (made[2, 0] == 0).all()


def test_many_cutouts_are_prepared_part_by_part(monkeypatch):
    data = cutouts(1)
    whole, views = standardised(data.cutouts), views_of(data, 4, 26)
    monkeypatch.setattr(star_galaxy_inputs, "_PART", 20)
    assert torch.equal(standardised(data.cutouts), whole)
    for one, other in zip(views_of(data, 4, 26), views, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_bands_are_hidden_as_often_as_said():
    count = 40_000
    everything = torch.ones(count, 4, dtype=torch.bool)
    given = (torch.zeros(count, 1), torch.zeros(count, 1), everything, everything)
    pictures, features, usable, has_psf = hide_bands(given, torch.Generator().manual_seed(2))
    assert pictures is given[0]
    assert features is given[1]
    number = usable.sum(1).float()
    some = 0.45
    assert (number == 4).float().mean() == pytest.approx(0.4 + 0.6 * some**4, abs=0.01)
    # None is left by chance in 0.55^4 of the rest, and one of them is then shown after all.
    one = 4 * some * (1 - some) ** 3 + (1 - some) ** 4
    assert (number == 1).float().mean() == pytest.approx(0.6 * one, abs=0.01)
    assert number.min() == 1
    bare = ~has_psf.any(1)
    assert bare.float().mean() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(has_psf[~bare], usable[~bare])
    weight = torch.tensor([1, 10, 100, 1000])
    found = [
        (usable * weight).sum().item(),
        (has_psf * weight).sum().item(),
        (usable * weight).sum(1).float().std().item(),
    ]
    np.testing.assert_allclose(found, GOLDEN_HIDDEN, rtol=1e-6)


GOLDEN_HIDDEN = [30301174, 22595732, 480.4447937011719]


def test_what_is_not_there_is_not_shown():
    usable = torch.tensor([[True, False, False, False]] * 400)
    psf = torch.tensor([[True, True, False, False]] * 400)
    _, _, seen, has_psf = hide_bands(
        (torch.zeros(400, 1), torch.zeros(400, 1), usable, psf), torch.Generator().manual_seed(3)
    )
    assert torch.equal(seen, usable)
    assert not has_psf[:, 1:].any()
    assert 0.6 < has_psf[:, 0].float().mean() < 0.9
    _, _, seen, has_psf = chosen_bands((None, None, usable, psf), (0, 1, 5))
    assert torch.equal(seen, usable)
    assert not has_psf.any()
    _, _, seen, has_psf = chosen_bands((None, None, usable, psf), (0, 4))
    assert torch.equal(has_psf, seen)


def test_the_challenge_is_divided_at_seven_and_eight_tenths(tmp_path):
    write_galstar(tmp_path / "galstar.csv", 90)
    sets = challenge(tmp_path / "galstar.csv", 5)
    assert {split: len(data) for split, data in sets.items()} == {"train": 63, "validation": 9, "test": 18}
    found = [[data.group.sum(), (data.group * np.arange(len(data))).sum()] for data in sets.values()]
    np.testing.assert_array_equal(found, GOLDEN_ROWS)


GOLDEN_ROWS = [[2682, 82123], [528, 1770], [795, 6553]]
