import numpy as np

from flows.adapters.weights import load_model
from flows.bench.plain_way import plain_logits
from flows.bench.shipped_net import shipped_net
from tests.flows.bench.bench_support import small_pixels, window_by_window


def test_it_scores_as_the_pipeline_does():
    pixels = small_pixels()
    expected = window_by_window(pixels, load_model("detect", "basic_cnn"))
    found = plain_logits(pixels, shipped_net()[0])
    assert np.isinf(found).sum() > 5
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)
