from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from flows.pipeline.weights import read_weights
from flows.results.evaluation.picture_scores import LEARNT, evaluate_pictures
from flows.training.picture_fit import PictureFit
from flows.training.pictures import PLANS, train_pictures
from kernels.pictures.augment import Augment
from schemas.errors import BadInput, Misconfigured


def galaxy(rng, ratio, arms):
    """A galaxy as a child would draw it: round or long, with two arms or none."""
    y, x = np.mgrid[:64, :64] - 31.5
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    r = np.hypot(u, v / ratio)
    light = np.exp(-r / 6) * (1 + arms * np.cos(2 * np.arctan2(v, u) - r / 2.5) * (r > 4))
    noisy = 230 * np.clip(light, 0, 1) + rng.normal(0, 4, (64, 64))
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng, folder = np.random.default_rng(4), tmp_path_factory.mktemp("galaxies")
    for label, ratio, arms in (("ellipticals", 0.8, 0.0), ("spirals", 0.9, 1.0), ("edge-on", 0.2, 0.0)):
        (folder / label).mkdir()
        for n in range(40):
            Image.fromarray(galaxy(rng, ratio, arms)).save(folder / label / f"{n}.png")
    (folder / "spirals" / "bad.png").write_bytes(b"no picture")
    (folder / "dogs").mkdir()
    Image.fromarray(galaxy(rng, 1.0, 0.0)).save(folder / "dogs" / "1.png")
    return folder


PLAN = replace(
    PLANS["morphology"],
    side=32,
    crop=1.0,
    repeats=1,
    fit=PictureFit(epochs=12, patience=12, batch=8, augment=Augment(zoom=1.1)),
)


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out, work, lines = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("work"), []
    torch.manual_seed(99)  # what was drawn before must not count
    return train_pictures("morphology", [folder], out, work, PLAN, 1, 1, lines.append), out, work, lines


@pytest.mark.slow
def test_learns_the_classes_and_is_compared_with_less(made):
    figures, out, _, lines = made
    assert figures["n"] == 24
    assert figures["classes"] == ["elliptical", "spiral", "edge-on"]
    assert figures["accuracy"] >= 0.8
    assert figures["baseline"]["n"] == 24
    assert figures["notes"]["labels_without_class"] == {"dogs": 1}
    assert [path.rsplit("/", 1)[1] for path in figures["notes"]["unreadable"]] == ["bad.png"]
    assert sum("pass" in line for line in lines) == 2 * 12
    for name in ("curves", "confusion", "mistakes"):
        assert (out / f"{name}.png").stat().st_size > 1000


@pytest.mark.slow
def test_what_is_written_says_what_it_was_learnt_from_and_scores_the_same(made, folder):
    figures, out, _, _ = made
    card, arrays = read_weights("morphology", str(out))
    assert card.training["pictures"] == [72, 24, 24]
    assert len(arrays[LEARNT]) == 96
    unseen = evaluate_pictures("morphology", [folder], str(out), unseen=True)
    assert (unseen["n"], unseen["trained_on"]) == (24, 96)
    assert unseen["confusion"] == figures["confusion"]
    assert card.metrics["accuracy"] == figures["accuracy"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_also_from_checkpoints(made, folder, tmp_path):
    _, out, work, _ = made
    train_pictures("morphology", [folder], tmp_path, work, PLAN, 1, 1, lambda line: None)
    digests = {read_weights("morphology", str(one))[0].sha256 for one in (out, tmp_path)}
    assert len(digests) == 1


def test_no_data_and_no_labels_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("NIGHTSTRIDE_DATA", raising=False)
    given = (tmp_path / "out", tmp_path, PLAN, 1, 1, lambda line: None)
    with pytest.raises(Misconfigured, match="no pictures to learn from"):
        train_pictures("scene", [], *given)
    (tmp_path / "data/dogs").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "data/dogs/1.png")
    with pytest.raises(BadInput, match="none of 1 pictures has a label of"):
        train_pictures("scene", [tmp_path / "data"], *given)
    assert not (tmp_path / "out").exists()


def _pictures(folder, labels, count):
    rng = np.random.default_rng(6)
    for label in labels:
        (folder / label).mkdir(parents=True)
        for n in range(count):
            Image.fromarray(galaxy(rng, 0.8, 0.0)).save(folder / label / f"{n}.png")
    return folder


def test_pictures_that_cannot_be_learnt_from_and_no_place_to_write_to_are_said_first(tmp_path):
    few, many = (
        _pictures(tmp_path / "few", ("ellipticals", "spirals"), 2),
        _pictures(tmp_path / "many", ("spirals",), 6),
    )
    (tmp_path / "bad/spirals").mkdir(parents=True)
    (tmp_path / "bad/spirals/1.png").write_bytes(b"no picture")
    given = (tmp_path, PLAN, 1, 1, lambda line: None)
    with pytest.raises(BadInput, match="4 pictures are too few to learn from"):
        train_pictures("morphology", [few], tmp_path / "out", *given)
    with pytest.raises(BadInput, match="none of the pictures can be read"):
        train_pictures("morphology", [tmp_path / "bad"], tmp_path / "out", *given)
    with pytest.raises(Misconfigured, match="the folder cannot be made there"):
        train_pictures("morphology", [many], tmp_path / "bad/spirals/1.png", *given)


def test_labels_of_which_one_class_alone_is_named_have_a_baseline(tmp_path):
    """What is no spiral may be anything else: there is nothing that a regression could learn to tell spirals from."""
    data = _pictures(tmp_path / "data", ("spirals", "non_spirals"), 6)
    plan = replace(PLAN, fit=replace(PLAN.fit, epochs=1))
    figures = train_pictures("morphology", [data], tmp_path / "out", tmp_path, plan, 1, 1, lambda line: None)
    assert figures["baseline"]["confusion"][0] == [sum(figures["confusion"][0]), 0]
    assert figures["baseline"]["n"] == figures["n"]


def test_trainings_with_several_seeds_share_a_folder_of_checkpoints(tmp_path):
    data, plan = _pictures(tmp_path / "data", ("spirals", "ellipticals"), 6), replace(PLAN, fit=PictureFit(epochs=1))
    (tmp_path / "work").mkdir()
    for seed in (1, 2, 1):
        train_pictures("morphology", [data], tmp_path / "out", tmp_path / "work", plan, seed, 1, lambda line: None)
    names = {path.name for path in (tmp_path / "work").iterdir()}
    assert names == {f"morphology-{one}.pt" for one in ("1", "1-kept", "2", "2-kept")}
