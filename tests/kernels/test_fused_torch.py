from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import kernels.fused_torch
import kernels.fused_torch_memory
from flows.adapters.weights import load_model
from kernels.fused_net import fuse
from kernels.fused_search import MARGIN
from kernels.fused_torch import TorchSearch
from kernels.fused_torch_moments import window_moments
from schemas.tiles import Tiling
from tests.kernels.torch_support import DEVICES, lively_net, messy_image, plainly

TOLERANCE = 1e-4  # of the spread of an image's log odds, or of one unit where that is smaller


def agree(ours, theirs):
    scored = np.isfinite(theirs)
    np.testing.assert_array_equal(np.isfinite(ours), scored)
    spread = theirs[scored].std() if scored.any() else 0.0
    np.testing.assert_allclose(ours[scored], theirs[scored], rtol=TOLERANCE, atol=TOLERANCE * max(1.0, spread))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("bands", "side", "stride"), [(1, 26, 7), (2, 26, 7), (3, 26, 5), (1, 34, 11), (2, 30, 30), (1, 27, 1)]
)
def test_scores_are_those_of_windows_cut_out_one_by_one(device, bands, side, stride):
    net, fused = lively_net(bands, side)
    image, usable, background = messy_image((131, 150) if stride > 1 else (40, 44), bands)
    grid = Tiling(usable.shape, stride * 100, side, stride).grid
    theirs, unscored = plainly(net, image, usable, background, grid, stride)
    ours, count = TorchSearch(fused, torch.device(device)).search(image, usable, background, grid, stride)
    assert ours.dtype == np.float32
    assert count == unscored
    agree(ours, theirs)
    assert theirs[np.isfinite(theirs)].std() > 0.3


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    pedestal=st.sampled_from([0.0, -160.0, 1e4, -1e4]),
    background=st.sampled_from([0.0, 1e4]),
    masked=st.sampled_from([0.0, 0.05, 0.45, 0.55]),
    bands=st.integers(1, 2),
)
def test_pedestals_and_masks(seed, pedestal, background, masked, bands):
    net, fused = lively_net(bands)
    rng = np.random.default_rng(seed)
    image = rng.normal(pedestal, 5, (bands, 47, 54)).astype(np.float32)
    usable = rng.random((47, 54)) >= masked
    grid = Tiling(usable.shape).grid
    theirs, unscored = plainly(net, image, usable, background, grid, 7)
    ours, count = TorchSearch(fused, torch.device("cpu")).search(image, usable, background, grid, 7)
    assert count == unscored
    agree(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
def test_pedestal_with_the_background_known_or_not(device):
    net, fused = lively_net()
    image, usable, _ = messy_image(background=10_000.0)
    grid = Tiling(usable.shape).grid
    for background in (10_000.0, 9_900.0, 0.0):
        theirs, _ = plainly(net, image, usable, background, grid, 7)
        agree(TorchSearch(fused, torch.device(device)).search(image, usable, background, grid, 7)[0], theirs)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.5, 1e4, 1e30])
@pytest.mark.parametrize("background", [0.0, 1e4])
def test_constant_window_is_not_scored(value, background):
    image = np.full((1, 40, 40), value, np.float32)
    search = TorchSearch(lively_net()[1], torch.device("cpu"))
    logits, unscored = search.search(image, np.ones((40, 40), bool), background, (3, 3), 7)
    assert (logits == -np.inf).all()
    assert unscored == 9


@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1e20, 1e34])
def test_unit_of_the_pixels_does_not_matter(scale):
    net, fused = lively_net()
    image = (np.random.default_rng(4).normal(0, 1, (1, 40, 40)) * scale).astype(np.float32)
    usable = np.ones((40, 40), bool)
    theirs, _ = plainly(net, image, usable, 0.0, (3, 3), 7)
    agree(TorchSearch(fused, torch.device("cpu")).search(image, usable, 0.0, (3, 3), 7)[0], theirs)


def test_exactly_half_masked_is_scored_and_one_more_is_not():
    image = np.random.default_rng(2).normal(0, 1, (1, 26, 26)).astype(np.float32)
    usable = np.ones((26, 26), bool)
    usable[:13] = False
    search = TorchSearch(lively_net()[1], torch.device("cpu"))
    assert search.search(image, usable, 0.0, (1, 1), 7)[1] == 0
    usable[13, 0] = False
    assert search.search(image, usable, 0.0, (1, 1), 7)[1] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_counts_as_masked(value):
    _, fused = lively_net(2)
    image, usable, background = messy_image(bands=2)
    search = TorchSearch(fused, torch.device("cpu"))
    masked = usable.copy()
    masked[10, 10] = False
    expected, _ = search.search(image, masked, background, (16, 18), 7)
    image[1, 10, 10] = value
    np.testing.assert_array_equal(search.search(image, usable, background, (16, 18), 7)[0], expected)


def test_pixels_may_be_read_only():
    _, fused = lively_net()
    image, usable, background = messy_image()
    search = TorchSearch(fused, torch.device("cpu"))
    expected = search.search(image, usable, background, (16, 18), 7)[0]
    for array in (image, usable):
        array.flags.writeable = False
    np.testing.assert_array_equal(search.search(image, usable, background, (16, 18), 7)[0], expected)


def test_no_windows():
    search = TorchSearch(lively_net()[1], torch.device("cpu"))
    logits, unscored = search.search(np.zeros((1, 9, 9), np.float32), np.ones((9, 9), bool), 0.0, (0, 0), 7)
    assert (len(logits), unscored) == (0, 0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tile", [28, 35, 91])
def test_tiles_give_the_scores_of_the_whole(device, tile):
    _, fused = lively_net()
    image, usable, background = messy_image()
    tiling = Tiling(usable.shape, tile)
    search = TorchSearch(fused, torch.device(device))
    whole = search.search(image, usable, background, tiling.grid, 7)[0].reshape(tiling.grid)
    parts = np.full_like(whole, np.nan)
    for each in tiling.tiles():
        box = (slice(each.y0, each.y1), slice(each.x0, each.x1))
        found, _ = search.search(image[:, *box], usable[box], background, (each.rows, each.columns), 7)
        rows, columns = slice(each.row0, each.row0 + each.rows), slice(each.column0, each.column0 + each.columns)
        parts[rows, columns] = found.reshape(each.rows, each.columns)
    scored = np.isfinite(whole)
    np.testing.assert_array_equal(np.isfinite(parts), scored)
    np.testing.assert_allclose(parts[scored], whole[scored], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bands", [1, 2])
def test_chunks_give_the_scores_of_the_whole(bands, monkeypatch):
    _, fused = lively_net(bands)
    image, usable, background = messy_image(bands=bands)
    search = TorchSearch(fused, torch.device("cpu"))
    whole, _ = search.search(image, usable, background, (16, 18), 7)
    monkeypatch.setattr(kernels.fused_torch_memory, "PROCESSOR", 2**20)
    chunked, _ = search.search(image, usable, background, (16, 18), 7)
    agree(chunked, whole)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_finds_what_float32_finds(device):
    net = load_model("detect", "basic_cnn").net
    fused = fuse(net)
    image, usable, background = messy_image((500, 520), seed=8)
    grid = Tiling(usable.shape).grid
    theirs, _ = plainly(net, image, usable, background, grid, 7)
    scored = np.isfinite(theirs)

    loose, _ = TorchSearch(fused, torch.device(device), "bfloat16").search(image, usable, background, grid, 7)
    np.testing.assert_array_equal(np.isfinite(loose), scored)
    error = np.abs(expit(loose[scored]) - expit(theirs[scored]))
    assert 0 < np.quantile(error, 0.99) < 1e-3
    near = np.abs(theirs) < 6
    assert np.abs(loose[near] - theirs[near]).max() < MARGIN / 4

    for floor in (-1.5, 0.0, 2.0):
        search = TorchSearch(fused, torch.device(device), "bfloat16", floor)
        tight, _ = search.search(image, usable, background, grid, 7)
        hit = tight >= floor
        np.testing.assert_array_equal(hit, theirs >= floor)
        assert hit.sum() > 5
        np.testing.assert_allclose(tight[hit], theirs[hit], rtol=TOLERANCE, atol=TOLERANCE)


def test_nothing_is_rounded_whatever_the_process_has_chosen(monkeypatch):
    matmul, seen = torch.backends.cuda.matmul, []

    def measured(*arguments):
        seen.append(matmul.fp32_precision)
        return window_moments(*arguments)

    monkeypatch.setattr(kernels.fused_torch, "window_moments", measured)
    matmul.fp32_precision = "tf32"
    try:
        image, usable, background = messy_image()
        TorchSearch(lively_net()[1], torch.device("cpu")).search(image, usable, background, (16, 18), 7)
        assert seen == ["ieee"]
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = "none"


def test_threads_may_share_a_search():
    search = TorchSearch(lively_net()[1], torch.device("cpu"), "bfloat16", floor=0.0)
    given = [(*messy_image(seed=seed), (16, 18), 7) for seed in range(6)]
    expected = [search.search(*one)[0] for one in given]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda one: search.search(*one)[0], given))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("grid", [(17, 18), (16, 19)])
def test_a_grid_beyond_the_image_is_refused(grid):
    image, usable, background = messy_image()
    with pytest.raises(ValueError, match="does not fit"):
        TorchSearch(lively_net()[1], torch.device("cpu")).search(image, usable, background, grid, 7)
