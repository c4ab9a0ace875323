import numpy as np
import pytest
import torch

from flows.adapters.star_galaxy_models import PLANE_NETS
from flows.adapters.weights import load_model
from flows.training.cutout_fit import CutoutFit
from flows.training.star_galaxy_own import fit_baselines
from flows.training.star_galaxy_planes import fit_plane_net, hide_planes, judged, plane_sample, write_plane_model
from schemas.class_table import UNKNOWN
from schemas.stage import Context
from stages.star_galaxy import STAGE
from tests.flows.training.star_galaxy_support import PLAN, cutouts, sample
from tests.stages.test_star_galaxy import objects


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
    ).to_pylist()
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
    before, after = judged(net, (pixels, there, signal)), judged(net, (scrambled, there, signal))
    np.testing.assert_array_equal(before.log_odds, after.log_odds)
    np.testing.assert_array_equal(before.signal, after.signal)
