import numpy as np
import pytest
import torch

from flows.adapters.star_galaxy_models import PLANE_NETS
from flows.training.cutout_fit import CutoutFit
from flows.training.star_galaxy_inputs import CONFIGURATIONS
from flows.training.star_galaxy_rivals import RivalPlan, fit_rivals, store_planes
from tests.flows.training.star_galaxy_support import cutouts


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
    found = fit_rivals(tmp_path, plan, 1, 1, said.append)
    assert {name: list(some) for name, some in found.items()} == {name: list(CONFIGURATIONS) for name in plan.fits}
    assert all(one.probability.shape == (50,) for some in found.values() for one in some.values())
    assert len(said) == 2 * len(CONFIGURATIONS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*-*.npz")}
    again = fit_rivals(tmp_path, plan, 1, 1, said.append)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*-*.npz")}
    np.testing.assert_array_equal(again["resnet"]["all"].probability, found["resnet"]["all"].probability)
    assert again["resnet"]["all"].history == found["resnet"]["all"].history
