import numpy as np
import torch

from kernels.verdict_net import VerdictNet
from schemas.model_card import ModelCard

CARD = ModelCard(
    stage="reliability", name="test", version="1", sha256="", input={}, classes=("false", "real"),
    training={}, metrics={}, threshold=0.5, false_alarm_rate="not set",
)  # fmt: skip


def test_two_layers_against_torch():
    rng = np.random.default_rng(0)
    mean, scale = rng.normal(size=6), rng.random(6) + 0.5
    layers = [(rng.normal(size=(6, 4)), rng.normal(size=4)), (rng.normal(size=(4, 1)), rng.normal(size=1))]
    features = rng.normal(size=(20, 6)).astype(np.float32)
    x = torch.from_numpy((features - mean) / scale)
    (w0, b0), (w1, b1) = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in layers]
    expected = torch.sigmoid(torch.relu(x @ w0 + b0) @ w1 + b1)[:, 0].numpy()
    arrays = {"mean": mean, "scale": scale}
    for n, (weight, bias) in enumerate(layers):
        arrays |= {f"weight{n}": weight, f"bias{n}": bias}
    np.testing.assert_allclose(VerdictNet(arrays, CARD)(features), expected, rtol=1e-6)


def test_no_candidates():
    arrays = {"mean": np.zeros(3), "scale": np.ones(3), "weight0": np.ones((3, 1)), "bias0": np.zeros(1)}
    assert VerdictNet(arrays, CARD)(np.empty((0, 3), np.float32)).shape == (0,)
