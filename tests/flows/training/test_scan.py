import numpy as np

from flows.adapters.zarr_tiles import TileStore
from flows.training.candidates import search
from flows.training.scan import hard_negatives, pixels
from flows.training.window_sample import away, cut_windows
from schemas.mask import UNUSABLE
from tests.flows.model_support import write_windows


def test_hard_negatives_are_the_worst_and_hold_nothing_real(examples, tmp_path):
    write_windows(tmp_path, threshold=1e-6)
    windows, corners = hard_negatives(examples[1], tmp_path, 50)
    assert windows.shape == (50, 1, 26, 26)
    np.testing.assert_array_equal(windows, cut_windows(*pixels(examples[1]), corners))
    assert away(examples[1].truth, corners).all()
    store = TileStore.open(examples[1].store)
    planes = {name: store.read_all(name) for name in ("difference", "mask")}
    hits = search(planes, store.info, str(tmp_path))
    every = 7 * np.stack([hits["row"].to_numpy(), hits["column"].to_numpy()], 1).astype(np.int64)
    clear = np.sort(hits["logit"].to_numpy()[away(examples[1].truth, every)])[::-1]
    by_place = dict(zip(map(tuple, every.tolist()), hits["logit"].to_pylist(), strict=True))
    np.testing.assert_allclose([by_place[tuple(corner)] for corner in corners.tolist()], clear[:50])


def test_pixels_are_those_of_the_tiles(examples):
    store = TileStore.open(examples[0].store)
    image, usable, background = pixels(examples[0])
    np.testing.assert_array_equal(image, store.read_all("difference"))
    np.testing.assert_array_equal(usable, (store.read_all("mask") & UNUSABLE) == 0)
    assert background == store.info.background
