import numpy as np

from flows.bench.plain_way import plain_logits
from flows.bench.shipped_net import shipped_net
from flows.bench.unfold_way import unfold_logits
from tests.flows.bench.bench_support import small_pixels


def test_it_scores_as_the_plain_way_does():
    pixels, (net, _) = small_pixels(), shipped_net()
    np.testing.assert_allclose(unfold_logits(pixels, net), plain_logits(pixels, net), rtol=1e-4, atol=1e-4)


def test_more_than_a_batch():
    pixels, (net, _) = small_pixels((300, 320)), shipped_net()
    assert pixels.grid[0] * pixels.grid[1] > 1024
    np.testing.assert_allclose(unfold_logits(pixels, net), plain_logits(pixels, net), rtol=1e-4, atol=1e-4)
