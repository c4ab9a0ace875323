import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.nets.verdict_cnn import VerdictCnn
from kernels.stamps import CHANNELS, SIDE
from kernels.tree_ensemble import TreeEnsemble
from kernels.verdict_net import VerdictNet, reliability_of
from schemas.model_card import ModelCard

CARD = ModelCard(
    stage="reliability", name="test", version="1", sha256="", input={}, classes=("false", "real"),
    training={}, metrics={}, threshold=0.5, false_alarm_rate="not set",
)  # fmt: skip
COUNT, FEATURES = 75, 6
TREES = TreeEnsemble(  # 0.5 + 3 where feature 2 is above 0.1, 0.5 - 2 elsewhere
    np.array([0], np.int32), np.array([2, -1, -1], np.int16), np.array([0.1, 0, 0]), np.array([1, 0, 0], np.int32),
    np.array([2, 0, 0], np.int32), np.array([0, -2.0, 3.0]), np.array([0.5]),
)  # fmt: skip


@pytest.fixture(scope="module")
def net():
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(VerdictCnn(FEATURES).eval())
    return VerdictNet(tuple(members), TREES, 1.7, -0.3, CARD)


@pytest.fixture(scope="module")
def seen():
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(COUNT, CHANNELS, SIDE, SIDE))
    return rng.normal(size=(COUNT, FEATURES)).astype(np.float32), stamps.astype(np.float32)


def test_mean_of_trees_and_networks_calibrated(net, seen):
    features, stamps = (torch.from_numpy(part) for part in seen)
    with torch.no_grad():
        networks = np.mean([one(stamps, features).double().numpy() for one in net.nets], axis=0)
    odds = (networks + np.where(seen[0][:, 2] > 0.1, 3.5, -1.5)) / 2
    np.testing.assert_allclose(net.log_odds(*seen), odds, atol=1e-5)
    found = net(*seen)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(1.7 * odds - 0.3))), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=COUNT, unique=True))
def test_an_answer_does_not_depend_on_the_company(net, seen, chosen):
    whole = net.log_odds(*seen)
    np.testing.assert_array_equal(net.log_odds(*(part[chosen] for part in seen)), whole[chosen])


def test_no_candidates(net, seen):
    assert net(*(part[:0] for part in seen)).shape == (0,)


def test_calibration_keeps_order_and_ends():
    odds = np.linspace(-30, 30, 101)
    found = reliability_of(odds, 0.5, 1.0)
    assert found.dtype == np.float32
    assert (np.diff(found) >= 0).all()
    assert found[0] < 1e-5
    assert found[-1] == pytest.approx(1)
    assert reliability_of(np.array([-2.0]), 0.5, 1.0)[0] == 0.5
