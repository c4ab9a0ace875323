import resource

import numpy as np
import pytest
import torch

from flows.pipeline.models import load_model
from flows.training import star_galaxy_planes
from flows.training.cutout_fit import CutoutFit
from flows.training.star_galaxy_inputs import CONFIGURATIONS
from flows.training.star_galaxy_own import fit_baselines
from flows.training.star_galaxy_planes import (
    RivalPlan,
    fit_networks,
    fit_plane_net,
    hide_planes,
    judged_planes,
    plane_sample,
    store_planes,
    write_plane_model,
)
from kernels.objects.star_galaxy_weights import PLANE_NETS
from schemas.class_table import UNKNOWN
from schemas.errors import Misconfigured
from schemas.stage import Context
from stages.star_galaxy import STAGE
from tests.stages.test_star_galaxy import objects
from tests.support.star_galaxy import PLAN, cutouts, sample


@pytest.mark.parametrize("network", PLANE_NETS)
def test_what_is_fitted_judges_alike_once_written_and_runs_in_the_stage(tmp_path, network):
    train, check = (plane_sample(data, 4) for data in (cutouts(), cutouts(2, 6)))
    fitted = fit_plane_net(network, train, check, CutoutFit(epochs=2), 1, lambda line: None)
    write_plane_model(tmp_path, network, fitted, 4, fit_baselines(sample(cutouts()), PLAN, 1), {}, {})
    test = cutouts(2, 20)
    model = load_model("star_galaxy", str(tmp_path))
    verdicts = model(test.cutouts)
    np.testing.assert_allclose(verdicts.probability[:, 0], fitted.star(plane_sample(test, 4)), atol=5e-3)
    assert (verdicts.outlier > 1).mean() < 0.2
    one_band = test.cutouts.copy()
    one_band[:, [0, 2, 3, 4, 6, 7]] = np.nan
    one_band[0] = np.nan
    rows = STAGE(
        {"object": objects(len(test)), "cutouts": one_band}, Context(models={"star_galaxy": model})
    ).rows.to_pylist()
    assert rows[0]["classLabel"] == UNKNOWN
    assert all(row["modelVersion"] == f"{network}-1" for row in rows[1:])
    assert all(row["pStar"] + row["pGalaxy"] == pytest.approx(1) for row in rows[1:])


def test_hidden_planes_do_not_count():
    data = plane_sample(cutouts(2, 6), 4)
    pixels, there, signal = hide_planes(data.inputs, torch.Generator().manual_seed(1))
    assert there.sum() < data.inputs[1].sum()
    assert there[:, :4].any(1).all()
    assert not (there[:, 4:] & ~there[:, :4]).any()
    assert torch.equal(pixels, data.inputs[0])
    net = PLANE_NETS["mlp"](8).eval()
    scrambled = torch.where(there[..., None, None], pixels, torch.randn(pixels.shape).half())
    before, after = judged_planes(net, (pixels, there, signal)), judged_planes(net, (scrambled, there, signal))
    np.testing.assert_array_equal(before.log_odds, after.log_odds)
    np.testing.assert_array_equal(before.signal, after.signal)


@pytest.mark.parametrize("name", PLANE_NETS)
@pytest.mark.parametrize("planes", [2, 4, 8])
def test_every_network_takes_every_number_of_planes(name, planes):
    net = PLANE_NETS[name](planes).eval()
    assert net(torch.zeros(2, planes, 26, 26)).shape == (2, 2)


def test_every_network_is_fitted_in_every_configuration_and_kept(tmp_path):
    sets = {"train": cutouts(2), "validation": cutouts(1, 6), "test": cutouts(1, 7)}
    store_planes(tmp_path, sets)
    plan = RivalPlan({name: CutoutFit(epochs=1) for name in ("basic_cnn", "resnet")})
    said: list[str] = []
    found = fit_networks(tmp_path, plan, 1, 1, said.append)
    assert {name: list(some) for name, some in found.items()} == {name: list(CONFIGURATIONS) for name in plan.fits}
    assert all(one.probability.shape == (50,) for some in found.values() for one in some.values())
    assert len(said) == 2 * len(CONFIGURATIONS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*-*.npz")}
    again = fit_networks(tmp_path, plan, 1, 1, said.append)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*-*.npz")}
    np.testing.assert_array_equal(again["resnet"]["all"].probability, found["resnet"]["all"].probability)
    assert again["resnet"]["all"].history == found["resnet"]["all"].history


def test_the_plan_of_the_shipped_models():
    assert RivalPlan().fits == {
        "basic_cnn": CutoutFit(30, 8, 64, 2e-3, 1e-3), "resnet": CutoutFit(20, 6, 64, 4e-3, 1e-3),
        "mlp": CutoutFit(30, 8, 64, 1e-3, 1e-3),
    }  # fmt: skip


def test_parts_are_prepared_and_judged_alike(monkeypatch):
    data = cutouts(1)
    whole = plane_sample(data, 4)
    torch.manual_seed(1)
    net = PLANE_NETS["mlp"](8).eval()
    before = judged_planes(net, whole.inputs)
    monkeypatch.setattr(star_galaxy_planes, "_PART", 20)
    for one, other in zip(plane_sample(data, 4).inputs, whole.inputs, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    for one, other in zip(judged_planes(net, whole.inputs), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    pixels, there, signal = whole.inputs
    assert (there.shape, signal.shape) == ((50, 8), (50, 4))
    assert (pixels.dtype, there[:, :4].all().item()) == (torch.float16, True)


def test_planes_that_are_not_there_are_0_to_a_network_that_learns():
    seen = []

    class Net(torch.nn.Module):
        def forward(self, pixels):
            seen.append(pixels)

    there = torch.tensor([[True, False], [False, True]])
    star_galaxy_planes._Hidden(Net())(torch.ones(2, 2, 3, 3), there, None)
    assert torch.equal(seen[0], there.float()[..., None, None].expand(2, 2, 3, 3))


def test_a_probability_is_calibrated(monkeypatch):
    monkeypatch.setattr(
        star_galaxy_planes, "judged_planes", lambda net, inputs: type("Raw", (), {"log_odds": np.array([0.5, -2.0])})
    )
    fitted = star_galaxy_planes.FittedPlanes(None, None, 2.0, -0.25)
    star = fitted.star(sample(cutouts(1)))
    np.testing.assert_allclose(star, 1 / (1 + np.exp([-0.75, 4.25])))


def test_fits_that_are_kept_are_those_of_the_same_plan_and_seed(tmp_path, monkeypatch):
    sets = {"train": cutouts(1), "validation": cutouts(1, 6), "test": cutouts(1, 7)}
    store_planes(tmp_path, sets)
    shown = []

    def fit(net, train, validation, plan, seed):
        shown.append(train[0][0].shape[1])
        return (star_galaxy_planes.CutoutEpoch(1.0, 2.0, 3.0, 4.0),)

    monkeypatch.setattr(star_galaxy_planes, "fit_cutouts", fit)
    plan = RivalPlan({"mlp": CutoutFit(epochs=1)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))  # as a disk that is full in the middle of a file
    try:
        with pytest.raises(Misconfigured, match=r"mlp-0-1-64-0.002-1.npz: could not be written"):
            fit_networks(tmp_path, plan, 1, 1, print)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.glob("*mlp-*"))
    shown.clear()
    found = fit_networks(tmp_path, plan, 1, 1, print)
    assert shown == [8, 4, 2, 2, 2, 2]
    assert sorted(path.name for path in tmp_path.glob("mlp-*")) == [f"mlp-{n}-1-64-0.002-1.npz" for n in range(6)]
    assert found["mlp"]["all"].history == (star_galaxy_planes.CutoutEpoch(1.0, 2.0, 3.0, 4.0),)
    fit_networks(tmp_path, plan, 1, 1, print)
    assert len(shown) == 6
    fit_networks(tmp_path, plan, 2, 1, print)
    assert len(shown) == 12
