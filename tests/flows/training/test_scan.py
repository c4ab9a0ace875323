import numpy as np
import pytest
import torch

from flows.adapters.weights import write_model
from flows.adapters.zarr_tiles import TileStore
from flows.training.scan import candidates, hard_negatives, misjudged, pixels, search
from flows.training.window_sample import away, cut_windows
from kernels.nets.basic_cnn import BasicCnn
from schemas.reliability import FEATURES
from schemas.tiles import Tiling


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained network."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(4)
    arrays = {name: value.numpy() for name, value in BasicCnn().state_dict().items()}
    card = {
        "stage": "detect", "name": "test", "version": "1", "input": {"bands": 1}, "classes": ("nothing", "asteroid"),
        "training": {}, "metrics": {}, "threshold": 0.5, "false_alarm_rate": "not set",
    }  # fmt: skip
    write_model(folder, arrays, card)
    return folder


def test_search_scores_windows_as_cut(examples, weights):
    hits = search(examples[0], weights, 1e-6)
    image, usable, background = pixels(examples[0])
    rows, columns = Tiling(image.shape).grid
    assert 0.5 * rows * columns < len(hits) <= rows * columns
    corners = 7 * np.stack([hits["row"].to_numpy(), hits["column"].to_numpy()], 1).astype(np.int64)
    windows = cut_windows(image, usable, background, corners[:300])
    torch.manual_seed(4)
    with torch.no_grad():
        scores = BasicCnn().eval()(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(hits["logit"].to_numpy()[:300], scores[:, 1] - scores[:, 0], atol=1e-5)


def test_hard_negatives_are_the_worst_and_hold_nothing_real(examples, weights):
    windows, corners = hard_negatives(examples[1], weights, 1e-6, 50)
    assert windows.shape == (50, 1, 26, 26)
    assert away(examples[1].truth, corners).all()
    hits = search(examples[1], weights, 1e-6)
    every = 7 * np.stack([hits["row"].to_numpy(), hits["column"].to_numpy()], 1).astype(np.int64)
    clear = np.sort(hits["logit"].to_numpy()[away(examples[1].truth, every)])[::-1]
    by_place = dict(zip(map(tuple, every.tolist()), hits["logit"].to_pylist(), strict=True))
    np.testing.assert_allclose([by_place[tuple(corner)] for corner in corners.tolist()], clear[:50])


def test_candidates_come_with_the_right_and_with_another_psf(examples, weights):
    (table, features), (other, _) = candidates(examples[0], weights)
    assert features.shape == (len(table), len(FEATURES))
    assert len(table)
    assert np.isfinite(features).all()
    assert not table.equals(other)


def test_misjudged_psf_is_plausible_and_always_the_same(examples):
    info = TileStore.open(examples[0].store).info
    assert misjudged(info) == misjudged(info)
    many = [misjudged(info.model_copy(update={"visit": visit})).psf.fwhm_px / info.psf.fwhm_px for visit in range(400)]
    assert np.std(np.log(many)) == pytest.approx(0.12, abs=0.015)
    assert np.mean(np.log(many)) == pytest.approx(0, abs=0.02)
