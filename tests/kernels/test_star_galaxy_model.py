import numpy as np
import pytest

from flows.adapters.star_galaxy_models import build_star_galaxy
from kernels.star_galaxy_model import Known, Raw, locate
from schemas.errors import BadInput
from schemas.model_card import ModelCard
from tests.flows.training.star_galaxy_support import cutouts, small


def model(psf="with"):
    arrays, card = small(psf)
    return build_star_galaxy(ModelCard.model_validate(card | {"sha256": "0" * 64}), arrays)


@pytest.fixture(scope="module")
def net():
    return model()


@pytest.fixture
def data():
    return cutouts(2, 20)


def test_tells_stars_from_galaxies_it_has_not_seen(net, data):
    verdicts = net(data.cutouts)
    assert ((verdicts.probability[:, 0] > 0.5) == (data.label == 1)).mean() > 0.85
    np.testing.assert_allclose(verdicts.probability.sum(1), 1, atol=1e-6)
    assert (verdicts.outlier > 1).mean() < 0.1


def test_no_usable_band_has_no_verdict(net, data):
    given = data.cutouts[:4].copy()
    given[1, :4] = np.nan
    given[2, :4] = 5.0
    given[3, :4, 11:16, 11:16] = given[3].max() * 2  # saturated: clipped in every band
    verdicts = net(given)
    assert np.isnan(verdicts.outlier).tolist() == [False, True, True, True]
    assert np.isnan(verdicts.probability[1:]).all()


def test_an_empty_cutout_is_an_outlier(net, data):
    empty = data.cutouts[:50].copy()
    empty[:, :4] = np.random.default_rng(1).normal(0, 10, (50, 4, 26, 26))
    assert (net(empty).outlier > 1).mean() > 0.8


def test_what_is_neither_star_nor_galaxy_is_an_outlier(net, data):
    trail = data.cutouts[:20].copy()
    rng = np.random.default_rng(2)
    trail[:, :4] = rng.normal(0, 1, (20, 4, 26, 26))
    trail[:, :4, ::2, :] += 300  # stripes
    trail[:, :4, 13, 13] += 5000 * rng.random(20)[:, None]
    assert np.median(net(trail).outlier) > np.median(net(data.cutouts).outlier) * 2


@pytest.mark.parametrize("side", [16, 21, 40])
def test_takes_any_side_from_16_px_on(net, data, side):
    given = np.full((3, 8, side, side), np.nan, np.float32)
    if side <= 26:
        first = 13 - side // 2
        given[:] = data.cutouts[:3, :, first : first + side, first : first + side]
    else:
        first = side // 2 - 13
        given[:, :, first : first + 26, first : first + 26] = data.cutouts[:3]
    verdicts = net(given)
    assert np.isfinite(verdicts.probability).all()


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2, 7, 26, 26), "have 7 planes"),
        ((2, 0, 26, 26), "have 0 planes"),
        ((2, 8, 15, 26), "less than 16 px"),
        ((2, 26, 26), "not floating-point numbers"),
    ],
)
def test_refuses_other_shapes(net, shape, match):
    with pytest.raises(BadInput, match=match):
        net(np.zeros(shape, np.float32))


def test_refuses_other_types(net):
    with pytest.raises(BadInput, match="int64"):
        net(np.zeros((1, 8, 26, 26), np.int64))


def test_nothing_gives_nothing(net):
    assert net(np.zeros((0, 8, 26, 26), np.float32)).probability.shape == (0, 2)


def test_without_psf_every_plane_is_an_image(data):
    single = model("without")
    verdicts = single(np.ascontiguousarray(data.cutouts[:, 2:3]))
    assert ((verdicts.probability[:, 0] > 0.5) == (data.label == 1)).mean() > 0.75
    assert single.bands_of(data.cutouts[:, :3]) == 3


def test_distance_is_that_of_mahalanobis():
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], 4000)
    codes = (rng.normal(size=(8000, 3)) * [1, 2, 4] + np.array([[0, 0, 0], [9, 0, 0]])[label]).astype(np.float32)
    known = Known(*locate(codes, label), limit=4.0, signal=2.0)
    distance = known.distance(np.array([[0, 0, 0], [0, 2, 0], [0, 0, 8], [9, 6, 0]], np.float32))
    np.testing.assert_allclose(distance, [0, 1, 2, 3], atol=0.15)
    outlier = known.outlier(Raw(np.zeros(2), np.array([[0, 0, 12], [0, 0, 0]], np.float32), np.array([5.0, 1.0])))
    np.testing.assert_allclose(outlier, [0.75, 2.0], atol=0.05)
