import numpy as np
import pytest

from flows.adapters.star_galaxy_models import build_star_galaxy
from kernels.cutout_features import band_views
from kernels.cutout_planes import make_planes
from kernels.star_galaxy_net import apply_nets, with_trees
from schemas.model_card import ModelCard
from tests.flows.training.star_galaxy_support import cutouts, small


def model(share):
    arrays, card = small()
    changed = card | {"sha256": "0" * 64, "input": card["input"] | {"share_of_trees": share}}
    return build_star_galaxy(ModelCard.model_validate(changed), arrays)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_log_odds_of_networks_and_trees_are_mixed_by_their_share(share):
    net = model(share)
    planes = make_planes(cutouts(1, 30).cutouts[:20], 4, 26)
    views = band_views(planes)
    raw = net.raw(planes, views)
    networks = apply_nets(net.nets, views)
    trees = net.trees.log_odds(views.features, views.usable, views.has_psf)
    np.testing.assert_allclose(raw.log_odds, (1 - share) * networks.log_odds + share * trees, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(raw.codes, networks.codes)
    np.testing.assert_array_equal(with_trees(networks, views, net.trees, share).log_odds, raw.log_odds)


def test_members_are_averaged():
    net = model(0.0)
    views = band_views(make_planes(cutouts(1, 30).cutouts[:20], 4, 26))
    other = model(0.0).nets[0]
    for weight in other.parameters():
        weight.data *= 0.9
    one, two = (apply_nets((member,), views).log_odds for member in (net.nets[0], other))
    assert not np.allclose(one, two)
    np.testing.assert_allclose(apply_nets((net.nets[0], other), views).log_odds, (one + two) / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_neither_order_nor_number_of_absent_bands_matters(share):
    net, data = model(share), cutouts(2, 20)
    part = np.ascontiguousarray(data.cutouts[:, [1, 2, 5, 6]])
    turned = np.ascontiguousarray(data.cutouts[:, [2, 1, 6, 5]])
    absent = data.cutouts.copy()
    absent[:, [0, 3, 4, 7]] = np.nan
    expected = net(part).probability
    np.testing.assert_allclose(net(turned).probability, expected, atol=1e-5)
    np.testing.assert_allclose(net(absent).probability, expected, atol=1e-5)
