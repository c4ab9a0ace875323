import numpy as np
import torch

from flows.adapters.weights import load_model
from flows.bench.shipped_net import shipped_net


def test_it_is_what_the_search_uses():
    net, card = shipped_net()
    windows = np.random.default_rng(1).normal(size=(8, 1, 26, 26)).astype(np.float32)
    with torch.inference_mode():
        scores = net(torch.from_numpy(windows)).numpy()
    scorer = load_model("detect", "basic_cnn")
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], scorer(windows), rtol=1e-5, atol=1e-5)
    assert card == scorer.card
    assert not net.training
