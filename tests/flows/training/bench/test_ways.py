import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.training.bench.exposure import shipped_net
from flows.training.bench.ways import GemmRates, chain_flops, gemm_rates, plain_logits, unfold_logits
from kernels.nets.basic_cnn import BasicCnn
from tests.support.bench import small_pixels, window_by_window


def test_it_scores_as_the_pipeline_does():
    pixels = small_pixels()
    expected = window_by_window(pixels, load_model("detect", "basic_cnn"))
    found = plain_logits(pixels, shipped_net()[0])
    assert np.isinf(found).sum() > 5
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


def test_it_scores_as_the_plain_way_does():
    pixels, (net, _) = small_pixels(), shipped_net()
    np.testing.assert_allclose(unfold_logits(pixels, net), plain_logits(pixels, net), rtol=1e-4, atol=1e-4)


def test_more_than_a_batch():
    pixels, (net, _) = small_pixels((300, 320)), shipped_net()
    assert pixels.grid[0] * pixels.grid[1] > 1024
    np.testing.assert_allclose(unfold_logits(pixels, net), plain_logits(pixels, net), rtol=1e-4, atol=1e-4)


def test_operations_of_the_fully_connected_chain():
    assert chain_flops(BasicCnn()) == 2 * 563_440


def test_the_better_library_sets_the_limit():
    assert GemmRates(2.0, 3.0, 9.0).f32 == 3.0
    assert GemmRates(2.0, 0.0, 9.0).f32 == 2.0


def test_rates_of_this_machine():
    rates = gemm_rates(BasicCnn(), repeats=1)
    assert rates.default_f32 > 0
    assert rates.bf16 > 0
    assert rates.f32 == pytest.approx(max(rates.default_f32, rates.onednn_f32))
