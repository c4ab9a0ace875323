import os
from pathlib import Path

import numpy as np
import pytest

from flows.results.evaluation.star_galaxy import BASELINES, evaluate_star_galaxy
from schemas.errors import BadInput, Misconfigured
from tests.support.star_galaxy import cutouts, write_small

KEYS = {"n", "accuracy", "accuracy_interval", "auc", "macro_f1", "per_class", "confusion"}


def save(path, cutouts_, label):
    np.savez(path, X=cutouts_, y=np.where(label == 1, "star", "galaxy"))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_small(folder, "without")
    return folder


@pytest.mark.parametrize("planes", [1, 3])
def test_scores_the_model_and_each_baseline(tmp_path, folder, planes):
    data = cutouts(2, 20)
    figures = evaluate_star_galaxy(save(tmp_path / "a.npz", data.cutouts[:, 1 : 1 + planes], data.label), str(folder))
    assert set(figures) >= KEYS
    assert figures["n"] == len(data)
    assert set(figures["baselines"]) == set(BASELINES)
    for one in figures["baselines"].values():
        assert set(one) >= KEYS
        assert np.sum(one["confusion"]) == len(data)
    assert np.sum(figures["confusion"], 1).tolist() == np.bincount(data.label).tolist()
    assert figures["accuracy"] > 0.7
    (galaxy, missed), (_, star) = figures["confusion"]
    assert list(figures["per_class"]) == figures["classes"] == ["galaxy", "star"]
    assert figures["per_class"]["galaxy"]["recall"] == pytest.approx(galaxy / (galaxy + missed), abs=1e-5)
    assert figures["per_class"]["star"]["precision"] == pytest.approx(star / (star + missed), abs=1e-5)


def test_cutouts_that_cannot_be_judged_are_counted_and_not_scored(tmp_path, folder):
    data = cutouts(1, 20)
    given = data.cutouts[:, 2].copy()
    given[:3] = np.nan
    figures = evaluate_star_galaxy(save(tmp_path / "a.npz", given, data.label), str(folder))
    assert figures["unjudged"] == 3
    rest = evaluate_star_galaxy(save(tmp_path / "b.npz", given[3:], data.label[3:]), str(folder))
    assert figures["n"] == rest["n"] == len(data) - 3
    assert {name: figures[name] for name in KEYS} == {name: rest[name] for name in KEYS}
    assert figures["baselines"] == rest["baselines"]
    with pytest.raises(BadInput, match="no cutout with enough usable pixels"):
        evaluate_star_galaxy(save(tmp_path / "c.npz", given[:3], data.label[:3]), str(folder))


def test_a_model_with_psfs_scores_pairs_of_planes(tmp_path):
    write_small(tmp_path)
    data = cutouts(2, 20)
    for planes in ([2, 6], [1, 2, 5, 6], list(range(8))):
        figures = evaluate_star_galaxy(save(tmp_path / "a.npz", data.cutouts[:, planes], data.label), str(tmp_path))
        assert figures["accuracy"] > 0.7
        assert figures["baselines"]["boosted_moments"]["n"] == len(data)
    with pytest.raises(BadInput, match="have 3 planes"):
        evaluate_star_galaxy(save(tmp_path / "b.npz", data.cutouts[:, :3], data.label), str(tmp_path))


def test_one_class_alone_is_scored_too(tmp_path, folder):
    data = cutouts(1, 20)
    figures = evaluate_star_galaxy(save(tmp_path / "a.npz", data.cutouts[:, 2], np.ones(len(data))), str(folder))
    assert figures["auc"] is None
    assert figures["confusion"][0] == [0, 0]


def test_no_such_model(tmp_path):
    data = cutouts(1, 20)
    with pytest.raises(Misconfigured, match="there is no model 'nonsense'"):
        evaluate_star_galaxy(save(tmp_path / "a.npz", data.cutouts[:, 2], data.label), "nonsense")


def galstar(path, data):
    """Write cutouts as the challenge does."""
    lines = [",y," + ",".join(str(n) for n in range(8 * 676))]
    rows = zip(data.label, data.cutouts.reshape(len(data), -1), strict=True)
    lines += [f"{n},{label}," + ",".join(map(repr, row.tolist())) for n, (label, row) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_challenge_is_scored_as_the_same_cutouts_in_an_npz_file(tmp_path):
    data = cutouts(1, 20)
    of_challenge = evaluate_star_galaxy(galstar(tmp_path / "galstar.csv", data))
    assert of_challenge["model"].startswith("multi_band-")
    assert of_challenge["accuracy"] > 0.85
    assert of_challenge == evaluate_star_galaxy(save(tmp_path / "a.npz", data.cutouts, data.label), "multi_band")


@pytest.mark.skipif("NIGHTSTRIDE_DATA" not in os.environ, reason="NIGHTSTRIDE_DATA is not set: no real cutouts")
def test_says_whether_the_model_learnt_from_this_file(tmp_path):
    path = Path(os.environ["NIGHTSTRIDE_DATA"]) / "05_star_galaxy_cutouts/ztf_llnl/ztf_star_galaxy_20x20.npz"
    assert evaluate_star_galaxy(path)["trained_on"] is True
    data = cutouts(1, 20)
    assert evaluate_star_galaxy(save(tmp_path / "a.npz", data.cutouts[:, 2], data.label))["trained_on"] is False
