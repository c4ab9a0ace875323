import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from torch.profiler import ProfilerActivity, profile

import kernels.search.torch_search
import kernels.search.torch_search as memory
from flows.pipeline.models import load_model
from kernels.search.fused_net import fuse
from kernels.search.torch_maps import window_moments
from kernels.search.torch_search import Chain, TorchSearch, full_precision, single_windows
from kernels.search.windows import MARGIN, fill_windows
from schemas.pixels import Tiling
from tests.support.torch_nets import DEVICES, lively_net, messy_image, plainly

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
    monkeypatch.setattr(kernels.search.torch_search, "PROCESSOR", 2**20)
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

    monkeypatch.setattr(kernels.search.torch_search, "window_moments", measured)
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


def theirs(net, features):
    with torch.inference_mode():
        for layer in (net.fc1, net.fc2, net.fc3):
            features = torch.relu(layer(features))
        scores = net.fc4(features)
        return scores[:, 1] - scores[:, 0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 16, 37])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_log_odds_are_the_networks(device, count, dtype, tolerance):
    net, fused = lively_net()
    features = torch.rand(count, 12, generator=torch.Generator().manual_seed(count))
    found = Chain(fused, torch.device(device), dtype, 16)(features.to(device))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu(), theirs(net, features), rtol=tolerance, atol=tolerance)


def test_a_window_does_not_feel_how_many_others_there_are():
    _, fused = lively_net()
    chain = Chain(fused, torch.device("cpu"), torch.float32, 16)
    features = torch.rand(40, 12, generator=torch.Generator().manual_seed(2))
    assert torch.equal(chain(features)[:5], chain(features[:5]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("background", [3.0, 1e4])
def test_windows_are_those_of_the_processor(device, background):
    image, usable, _ = messy_image(bands=2)
    image[0, 26:60, 30:70] += 1e6
    rows, columns = 16, 18
    theirs = np.empty((rows * columns, 2, 26, 26), np.float32)
    _, scored = fill_windows(image, usable, background, (rows, columns), 7, 0, theirs)
    index = torch.arange(rows * columns, device=device)
    there = torch.from_numpy(image).to(device), torch.from_numpy(usable).to(device)
    ours, spread = single_windows(*there, background, (index // columns * 7, index % columns * 7), 26)
    assert not bool(spread.cpu()[~scored & _mostly_usable(usable, rows, columns)].any())
    assert bool(spread.cpu()[scored].all())
    np.testing.assert_allclose(ours.cpu().numpy()[scored], theirs[scored], rtol=1e-6, atol=1e-6)


def _mostly_usable(usable, rows, columns):
    windows = np.lib.stride_tricks.sliding_window_view(usable, (26, 26))[::7, ::7][:rows, :columns]
    return 2 * windows.sum((2, 3)).ravel() >= 26 * 26


def peak_bytes(search, image, usable, grid, stride, trace):
    """Most that torch holds at a time on the processor beyond what it held before."""
    there = torch.from_numpy(image), torch.from_numpy(usable)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        search.score(*there, 0.0, grid, stride)
    profiler.export_chrome_trace(str(trace))
    events = [one for one in json.loads(trace.read_text())["traceEvents"] if one["name"] == "[memory]"]
    held = [one["args"]["Total Allocated"] for one in sorted(events, key=lambda one: one["ts"])]
    return max(held) - held[0]


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("stride", [7, 13])
def test_chunks_stay_below_the_budget(bands, stride, tmp_path, monkeypatch):
    _, fused = lively_net(bands)
    image = np.random.default_rng(0).normal(0, 5, (bands, 700, 520)).astype(np.float32)
    grid = ((700 - 26) // stride + 1, (520 - 26) // stride + 1)
    monkeypatch.setattr(memory, "PROCESSOR", 40 * 2**20)
    search = TorchSearch(fused, torch.device("cpu"), batch=64)
    assert 1 < memory.chunk_rows(fused, search.device, grid[1], 520, stride) < grid[0]
    peak = peak_bytes(search, image, np.ones((700, 520), bool), grid, stride, tmp_path / "trace.json")
    assert 0.3 * memory.PROCESSOR < peak < memory.PROCESSOR


def test_one_row_at_least(monkeypatch):
    monkeypatch.setattr(memory, "PROCESSOR", 1)
    assert memory.chunk_rows(lively_net()[1], torch.device("cpu"), 400, 3000, 7) == 1


def test_more_memory_takes_more_rows(monkeypatch):
    _, fused = lively_net()
    free = [2**30, 2**32, 2**40]
    rows = []
    for each in free:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, each=each: (each, 2 * each))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        rows.append(memory.chunk_rows(fused, torch.device("cuda"), 568, 4000, 7))
    assert rows[0] < rows[1] < rows[2]
    used = rows[2] * (568 * memory.window_bytes(fused) + 7 * 4000 * memory.pixel_bytes(fused))
    assert used <= memory.LARGEST


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_chunks_stay_below_the_budget_on_a_gpu(monkeypatch):
    monkeypatch.setattr(memory, "LARGEST", 200 * 2**20)
    _, fused = lively_net()
    device = torch.device("cuda")
    search = TorchSearch(fused, device, batch=64)
    image, usable = torch.randn(1, 3000, 3000, device=device), torch.ones(3000, 3000, dtype=torch.bool, device=device)
    search.score(image, usable, 0.0, (425, 425), 7)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    search.score(image, usable, 0.0, (425, 425), 7)
    assert torch.cuda.max_memory_allocated(device) - before < memory.LARGEST


MATMUL, PROCESSOR = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul


def choices():
    return MATMUL.fp32_precision, PROCESSOR.fp32_precision, MATMUL.allow_bf16_reduced_precision_reduction


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    torch.set_float32_matmul_precision("highest")
    MATMUL.fp32_precision = PROCESSOR.fp32_precision = "none"
    MATMUL.allow_bf16_reduced_precision_reduction = True


@pytest.mark.parametrize("precision", ["tf32", "ieee", "none"])
@pytest.mark.parametrize("reduced", [True, False])
def test_nothing_is_rounded_and_the_choice_comes_back(precision, reduced):
    MATMUL.fp32_precision, MATMUL.allow_bf16_reduced_precision_reduction = precision, reduced
    PROCESSOR.fp32_precision = "bf16"
    before = choices()
    with full_precision():
        assert MATMUL.fp32_precision in ("ieee", "none")
        assert PROCESSOR.fp32_precision == "ieee"
        assert not MATMUL.allow_bf16_reduced_precision_reduction
    assert choices() == before


def test_the_choice_comes_back_after_an_error():
    MATMUL.fp32_precision = "tf32"
    with pytest.raises(OSError, match="gone"), full_precision():
        raise OSError("gone")
    assert MATMUL.fp32_precision == "tf32"
    with full_precision():
        assert MATMUL.fp32_precision == "ieee"


@pytest.mark.parametrize("word", ["high", "medium"])
def test_the_choice_may_have_been_made_in_the_old_way(word):
    torch.set_float32_matmul_precision(word)
    with full_precision():
        assert MATMUL.fp32_precision == PROCESSOR.fp32_precision == "ieee"
    assert torch.get_float32_matmul_precision() == word


def test_products_are_those_of_float32():
    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    exact = values @ values
    PROCESSOR.fp32_precision = "bf16"
    with full_precision():
        assert torch.equal(values @ values, exact)


def test_a_thread_that_leaves_does_not_let_others_round():
    MATMUL.fp32_precision = "tf32"
    inside, go, seen = threading.Event(), threading.Event(), []

    def other():
        with full_precision():
            inside.set()
            go.wait()
            seen.append(MATMUL.fp32_precision)

    thread = threading.Thread(target=other)
    with full_precision():
        thread.start()
        assert not inside.wait(0.05)
    inside.wait()
    go.set()
    thread.join()
    assert seen == ["ieee"]
    assert MATMUL.fp32_precision == "tf32"


def test_a_pixel_and_a_window_take_as_much_as_their_parts():
    """Of `BasicCnn`: 5 x 5 pixels to 6 maps, pooled to 9 x 9 values, 4 x 4 of them to 3 maps of 6 x 6."""
    _, one = lively_net()
    # Pixel, square and mask in float64; a matrix row of 5 x 12 pixels for eight; three times six maps; the pixel.
    assert memory.pixel_bytes(one) == 8 * 3 + 4 * 5 * 12 // 8 + 8 + 4 * 6 * 3 + 8
    assert memory.window_bytes(one) == 4 * (2 * 3 * 6 * 6 + 9 * 9 * 6) + 128
    _, three = lively_net(3)
    assert memory.pixel_bytes(three) == 8 * 7 + 4 * 5 * 12 // 8 + 8 + 4 * 6 * 3 + 8 * 3
    # The sum of the bands before and while it is pooled: 20 x 20 values of six maps.
    assert memory.window_bytes(three) == 4 * (2 * 6 * 20 * 20 + 9 * 9 * 6) + 128
    _, two = lively_net(2)
    assert memory.pixel_bytes(two) == 8 * 5 + 4 * 5 * 12 // 8 + 8 + 4 * 6 * 2 + 8 * 2


@pytest.mark.parametrize(("stride", "columns", "nx"), [(7, 400, 3000), (26, 115, 3000), (40, 9, 400)])
def test_rows_are_as_many_as_fit_the_budget(stride, columns, nx, monkeypatch):
    _, fused = lively_net()
    row = columns * memory.window_bytes(fused) + stride * nx * memory.pixel_bytes(fused)
    halo = (26 - stride) * nx * memory.pixel_bytes(fused)
    cpu = torch.device("cpu")
    for rows in (1, 2, 9):
        for budget, expected in ((rows * row + halo, rows), (rows * row + halo - 1, max(rows - 1, 1))):
            monkeypatch.setattr(memory, "PROCESSOR", budget)
            assert memory.chunk_rows(fused, cpu, columns, nx, stride) == expected


def test_half_of_what_a_gpu_has_idle_is_taken_and_no_more_than_8_gib(monkeypatch):
    _, fused = lively_net()
    row = 400 * memory.window_bytes(fused) + 7 * 3000 * memory.pixel_bytes(fused)
    halo = 19 * 3000 * memory.pixel_bytes(fused)
    free = 2 * (halo + 11 * row)  # its half is enough for 11 rows
    for device, reserved, allocated in ((free, 0, 0), (0, free + 5, 5), (free - 7, 8, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, device=device: (device, 0))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _, reserved=reserved: reserved)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _, allocated=allocated: allocated)
        assert memory.chunk_rows(fused, torch.device("cuda"), 400, 3000, 7) == 11
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free - 9, 0))
    assert memory.chunk_rows(fused, torch.device("cuda"), 400, 3000, 7) == 10
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**12, 0))
    assert memory.chunk_rows(fused, torch.device("cuda"), 400, 3000, 7) == (8 * 2**30 - halo) // row


def test_sizes_are_those_that_are_described():
    assert memory.PROCESSOR == 256 * 2**20
    assert memory.LARGEST <= 4 * 2**31  # numbers of 4 bytes: indices below 2^31
    assert memory.BATCH["cuda"] * 1500 * 2 == pytest.approx(49e6, rel=0.01)
    _, fused = lively_net()
    kinds = {torch.bfloat16: [torch.float32, *[torch.bfloat16] * 3], torch.float32: [torch.float32] * 4}
    for dtype, expected in kinds.items():
        layers = Chain(fused, torch.device("cpu"), dtype, 16)._layers
        assert [tuple(matrix.shape) for matrix, _ in layers] == [(16, 120), (120, 504), (504, 1000), (1000, 8)]
        assert [len(bias) for _, bias in layers] == [120, 504, 1000, 8]
        assert [matrix.dtype for matrix, _ in layers] == expected


def test_an_image_may_be_larger_than_its_windows():
    _, fused = lively_net()
    image, usable, background = messy_image()
    search = TorchSearch(fused, torch.device("cpu"))
    whole = search.search(image, usable, background, (16, 18), 7)[0].reshape(16, 18)
    found, unscored = search.search(image, usable, background, (5, 9), 7)
    agree(found.reshape(5, 9), whole[:5, :9])
    assert unscored == np.isneginf(whole[:5, :9]).sum()


def test_hits_and_an_eighth_below_are_computed_again_in_float32():
    _, fused = lively_net()
    image, usable, background = messy_image()
    given, cpu = (image, usable, background, (16, 18), 7), torch.device("cpu")
    plain, exact = (TorchSearch(fused, cpu, kind).search(*given)[0] for kind in ("bfloat16", "float32"))
    own = np.isfinite(plain) & (plain != exact)  # those that bfloat16 changes
    floor = float(np.sort(plain[own])[len(plain[own]) // 2]) + 1 / 8  # a window lies right at the margin
    found = TorchSearch(fused, cpu, "bfloat16", floor).search(*given)[0]
    near = own & (plain >= floor - 1 / 8)
    agree(found[near], exact[near])
    assert (found[near] != plain[near]).mean() > 0.9
    np.testing.assert_array_equal(found[~near & own], plain[~near & own])
    assert (own & (plain == np.float32(floor - 1 / 8)) & (found != plain)).any()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_spread_that_float32_cannot_hold_is_none(sign):
    image = np.full((1, 26, 26), sign, np.float32)
    step = np.spacing(np.float32(1.0))
    steps = 1.2e-7 * 26 / step  # of one pixel alone: its spread is a 26th, times 1.2e-7 of the largest
    zero = torch.zeros(1, dtype=torch.int64)
    for count, scored in ((np.ceil(1.01 * steps), True), (np.floor(0.99 * steps), False)):
        image[0, 4, 7] = sign * (1 + count * step)
        there = torch.from_numpy(image), torch.ones(26, 26, dtype=torch.bool)
        windows, spread = single_windows(*there, 0.0, (zero, zero), 26)
        assert spread.tolist() == [scored]
        assert bool(windows.any()) == scored
    none = torch.from_numpy(image), torch.zeros(26, 26, dtype=torch.bool)
    windows, spread = single_windows(*none, 0.0, (zero, zero), 26)
    assert spread.tolist() == [False]
    assert not windows.any()
