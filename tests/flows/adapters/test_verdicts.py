import numpy as np
import torch

from flows.adapters.verdicts import TREES, build_verdict
from flows.adapters.weights import load_model, write_model
from kernels.nets.verdict_cnn import VerdictCnn
from kernels.stamps import CHANNELS, SIDE
from schemas.reliability import FEATURES
from tests.flows.model_support import CARD, one_leaf, write_verdict


def test_members_and_calibration_come_back(tmp_path):
    nets = []
    for seed in range(2):
        torch.manual_seed(seed)
        nets.append(VerdictCnn(len(FEATURES)).eval())
    arrays = {f"{n}.{name}": value.numpy() for n, net in enumerate(nets) for name, value in net.state_dict().items()}
    arrays |= {f"{TREES}{name}": value for name, value in one_leaf(0.75)._asdict().items()}
    given = {"stage": "reliability", "input": {"features": list(FEATURES), "networks": 2}, "threshold": 0.4}
    card = write_model(tmp_path, arrays, CARD | given | {"calibration": {"slope": 0.5, "offset": 1.5}})
    verdict = build_verdict(card, arrays)
    assert (verdict.slope, verdict.offset, verdict.card) == (0.5, 1.5, card)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, len(FEATURES))).astype(np.float32)
    stamps = rng.normal(size=(5, CHANNELS, SIDE, SIDE)).astype(np.float32)
    with torch.no_grad():
        odds = sum(net(torch.from_numpy(stamps), torch.from_numpy(features)).numpy() for net in nets) / 2
    odds = (odds + 0.75) / 2
    np.testing.assert_allclose(verdict.log_odds(features, stamps), odds, atol=1e-5)
    np.testing.assert_array_equal(load_model("reliability", str(tmp_path))(features, stamps), verdict(features, stamps))


def test_more_than_ten_members_are_told_apart(tmp_path):
    write_verdict(tmp_path, networks=11)
    assert len(load_model("reliability", str(tmp_path)).nets) == 11
