import numpy as np
import torch

from kernels.verdict_net import VerdictNet
from schemas.model_card import ModelCard

CARD = ModelCard(
    stage="reliability", name="test", version="1", sha256="", input={}, classes=("false", "real"),
    training={}, metrics={}, threshold=0.5, false_alarm_rate="not set",
)  # fmt: skip


def test_ensemble_of_two_layers_against_torch():
    rng = np.random.default_rng(0)
    mean, scale = rng.normal(size=6), rng.random(6) + 0.5
    arrays = {
        "weight0": rng.normal(size=(3, 6, 4)), "bias0": rng.normal(size=(3, 4)),
        "weight1": rng.normal(size=(3, 4, 1)), "bias1": rng.normal(size=(3, 1)),
    }  # fmt: skip
    features = rng.normal(size=(20, 6)).astype(np.float32)
    x = torch.from_numpy((features - mean) / scale)
    layers = {name: torch.from_numpy(value) for name, value in arrays.items()}
    odds = [
        torch.relu(x @ layers["weight0"][k] + layers["bias0"][k]) @ layers["weight1"][k] + layers["bias1"][k]
        for k in range(3)
    ]
    expected = torch.sigmoid(sum(odds) / 3)[:, 0].numpy()
    net = VerdictNet(arrays | {"mean": mean, "scale": scale}, CARD)
    np.testing.assert_allclose(net(features), expected, rtol=1e-6)


def test_no_candidates():
    arrays = {"mean": np.zeros(3), "scale": np.ones(3), "weight0": np.ones((1, 3, 1)), "bias0": np.zeros((1, 1))}
    assert VerdictNet(arrays, CARD)(np.empty((0, 3), np.float32)).shape == (0,)
