import numpy as np
import pytest
import torch

from flows.pipeline.models import load_model
from flows.training.bench import ways
from flows.training.bench.exposure import shipped_net
from flows.training.bench.ways import (
    BATCHES,
    GemmRates,
    Pixels,
    Timed,
    chain_flops,
    gemm_rates,
    plain_logits,
    unfold_logits,
)
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


class Sums:
    """Says of windows what their last pixel is, and notes how many it is shown at a time."""

    side = 26

    def __init__(self):
        self.shown = []

    def __call__(self, windows):
        self.shown.append(len(windows))
        odds = windows[:, 0, -1, -1]
        return torch.stack([odds, 3 * odds], 1)


def test_windows_are_judged_in_batches_of_64_and_of_1024():
    pixels = Pixels(
        np.random.default_rng(1).normal(size=(1, 280, 280)).astype(np.float32), np.ones((280, 280), bool), 0.0
    )
    assert pixels.grid == (37, 37)
    plain, unfolded = Sums(), Sums()
    found = plain_logits(pixels, plain), unfold_logits(pixels, unfolded)
    assert plain.shown == [64] * 21 + [1369 - 21 * 64]
    assert unfolded.shown == [1024, 1369 - 1024]
    expected = np.empty((37, 37))
    for row in range(37):
        for column in range(37):
            window = pixels.image[0, 7 * row : 7 * row + 26, 7 * column : 7 * column + 26].astype(np.float64)
            expected[row, column] = 2 * (window[-1, -1] - window.mean()) / window.std()
    for one in found:
        np.testing.assert_allclose(one, expected.ravel(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [338, 337])
def test_a_window_is_judged_if_half_of_it_counts(count):
    image = np.random.default_rng(2).normal(10, 2, (1, 26, 26)).astype(np.float32)
    usable = np.zeros(676, bool)
    usable[-count:] = True
    pixels = Pixels(image, usable.reshape(26, 26), 10.0)
    values = image[0][pixels.usable].astype(np.float64)
    expected = 2 * (image[0, -1, -1] - values.mean()) / values.std() if count == 338 else -np.inf
    for way in (plain_logits, unfold_logits):
        np.testing.assert_allclose(way(pixels, Sums()), [expected], rtol=1e-4)


def test_flat_windows_are_not_judged():
    pixels = Pixels(np.full((1, 33, 26), 5.0, np.float32), np.ones((33, 26), bool), 0.0)
    pixels.image[0, -1, 3] = 9.0
    for way in (plain_logits, unfold_logits):
        assert np.isfinite(way(pixels, Sums())).tolist() == [False, True]


def test_windows_of_several_bands_need_all_to_vary():
    windows = torch.arange(2 * 2 * 16.0).reshape(2, 2, 4, 4)
    windows[1, 1] = 7.0
    _, scored = ways._standardised_windows(windows, torch.ones(2, 4, 4, dtype=torch.bool))
    assert scored.tolist() == [True, False]
    image = windows[1].numpy()
    assert ways._standardised(Pixels(image, np.ones((4, 4), bool), 0.0), 0, 0, 4) is None
    made, scored = ways._standardised_windows(windows[:1], torch.zeros(1, 4, 4, dtype=torch.bool))
    assert not scored.any()
    assert torch.isfinite(made).all()


def test_products_are_those_of_the_largest_layer_and_a_square_one(monkeypatch):
    assert BATCHES == (256, 1024, 4096)
    net = BasicCnn()
    layer = ways._largest(net)
    assert (layer.in_features * layer.out_features) == max(one.weight.numel() for one in net.layers()[2])
    monkeypatch.setattr(ways, "BATCHES", (2, 3))
    products = dict(ways._products(torch.nn.Linear(5, 4)))
    sizes = {"2 x 5 x 4": 80, "3 x 5 x 4": 120, "1024 x 1024 x 1024": 2 * 1024**3}
    for kind in ("default_f32", "bf16"):
        assert {name: products[f"{kind} {name}"][0] for name in sizes} == sizes
    single, half = (products[f"{kind} 2 x 5 x 4"][1]() for kind in ("default_f32", "bf16"))
    assert single.shape == (2, 4)
    torch.testing.assert_close(half.float(), single, atol=0.1, rtol=0.1)
    draw = torch.Generator().manual_seed(1)
    x, weight = torch.randn(2, 5, generator=draw), torch.randn(4, 5, generator=draw)
    torch.testing.assert_close(single, x @ weight.T)


def test_a_rate_is_the_best_of_its_kind(monkeypatch):
    products = {"default_f32 a": 6, "default_f32 b": 8, "onednn_f32 a": 9, "bf16 a": 5}
    ran, asked = [], []
    monkeypatch.setattr(
        ways,
        "_products",
        lambda layer: [(name, (flops, lambda name=name: ran.append(name))) for name, flops in products.items()],
    )

    def interleaved(variants, repeats):
        asked.append(repeats)
        return Timed({name: (2.0, 1.0, 9.0) if name.endswith("a") else (4.0,) * 3 for name in variants}, {})

    monkeypatch.setattr(ways, "interleaved", interleaved)
    assert gemm_rates(BasicCnn()) == GemmRates(3.0, 4.5, 2.5)
    assert asked == [15]
    assert ran == list(products)
    assert ways._best({"bf16 a": 5.0}, "onednn_f32") == 0.0
