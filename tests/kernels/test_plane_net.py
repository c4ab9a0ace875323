import numpy as np
import pytest
import torch

from flows.adapters.star_galaxy_models import PLANE_NETS
from flows.training.star_galaxy_inputs import standardised
from kernels.cutout_planes import make_planes
from kernels.plane_net import PlaneNet, said_of_planes, z_scored
from kernels.star_galaxy_model import SIGNAL, Known, best_signal, locate
from schemas.cutouts import SIDE
from schemas.errors import BadInput
from schemas.model_card import ModelCard
from tests.flows.training.star_galaxy_support import cutouts

CARD = ModelCard(
    stage="star_galaxy", name="basic_cnn", version="1", sha256="0", input={}, classes=("star", "galaxy"),
    training={}, metrics={}, threshold=0.5, false_alarm_rate="",
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    net = PLANE_NETS["basic_cnn"](8).eval()
    data = cutouts(2, 20)
    pixels = torch.from_numpy(z_scored(make_planes(data.cutouts, 4, SIDE)))
    _, codes = said_of_planes(net, pixels)
    known = Known(*locate(codes, data.label), 8.0, 1.0)
    return PlaneNet(known=known, slope=1.0, offset=0.0, psf="with", side=SIDE, card=CARD, net=net, bands=4)


def test_planes_are_z_scored_as_for_the_comparison():
    data = cutouts(1, 20)
    ours = z_scored(make_planes(data.cutouts, 4, SIDE))
    np.testing.assert_allclose(ours, standardised(data.cutouts).float().numpy(), atol=4e-3)  # that is float16


def test_a_missing_band_is_all_zeros_and_its_psf_with_it():
    given = cutouts(1, 20).cutouts.copy()
    given[:, 1] = np.nan
    given[:, 6] = np.nan
    planes = z_scored(make_planes(given, 4, SIDE))
    assert not planes[:, [1, 5, 6]].any()
    assert planes[:, [0, 2, 3, 4, 7]].any((2, 3)).all()


@pytest.mark.parametrize("network", PLANE_NETS)
def test_codes_and_last_layer_are_the_whole_network(network):
    torch.manual_seed(2)
    net = PLANE_NETS[network](8).eval()
    pixels = torch.randn(5, 8, SIDE, SIDE)
    odds, codes = said_of_planes(net, pixels)
    with torch.no_grad():
        scores = net(pixels)
    np.testing.assert_allclose(odds, (scores[:, 1] - scores[:, 0]).numpy(), rtol=1e-5, atol=1e-6)
    assert codes.shape == (5, {"basic_cnn": 1000, "resnet": 64, "mlp": 64}[network])


def test_any_band_may_be_missing(model):
    given = cutouts(1, 20).cutouts.copy()
    for band in range(4):
        some = given.copy()
        some[:, [band, band + 4]] = np.nan
        verdicts = model(some)
        assert np.isfinite(verdicts.probability).all()
        assert np.isfinite(verdicts.outlier).all()
    given[0, :4] = np.nan
    assert np.isnan(model(given).probability[0]).all()
    assert np.isfinite(model(given).probability[1:]).all()


@pytest.mark.parametrize("planes", [2, 6, 10])
def test_another_number_of_bands_is_refused(model, planes):
    with pytest.raises(BadInput, match=rf"have {planes} planes, but basic_cnn-1 takes 8.*multi_band") as error:
        model(np.zeros((2, planes, 26, 26), np.float32))
    assert error.value.code == "band_count"


def test_of_many_codes_the_directions_of_most_spread_count():
    rng = np.random.default_rng(1)
    codes = (rng.normal(size=(2000, 60)) * np.linspace(0.1, 6, 60)).astype(np.float32)
    centres, whitening = locate(codes, np.arange(2000) % 2)
    assert centres.shape == (2, 60)
    assert whitening.shape == (60, 48)
    spread = ((codes - centres[0]) @ whitening).std(0)
    np.testing.assert_allclose(spread, 1, atol=0.1)
    assert np.abs(whitening[:10]).max() < np.abs(whitening[50:]).max()


def test_the_best_usable_band_tells_how_bright():
    signal = np.array([[3.0, 9.0], [3.0, 1.0]], np.float32)
    np.testing.assert_array_equal(best_signal(signal, np.array([[True, False], [True, True]])), [3.0, 3.0])
    assert SIGNAL == 0
