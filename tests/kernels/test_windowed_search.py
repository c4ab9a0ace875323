import numpy as np

from kernels.windowed_search import WindowedSearch
from tests.kernels.fused_fixture import cut, grid_of, sky


def test_scores_every_window_and_counts_those_it_cannot():
    image, usable = sky((60, 120), bad=0.0)
    usable[:, :30] = False
    image[:, 50, 100] = np.nan
    windows, scored = cut(image, usable & np.isfinite(image[0]), 0.0)
    search = WindowedSearch(lambda batch: batch[:, 0, 3, 4], 26, 16)
    logits, unscored = search.search(image, usable, 0.0, grid_of((60, 120)), 7)
    assert unscored == (~scored).sum() > 0
    assert (logits[scored] == windows[scored, 0, 3, 4]).all()
    assert np.isneginf(logits[~scored]).all()
