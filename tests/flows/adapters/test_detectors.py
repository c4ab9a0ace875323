import numpy as np
import pytest
from scipy.special import logit

from flows.adapters.detectors import build_detector
from flows.adapters.weights import load_model, read_weights
from kernels.dense_search import DenseSearch, dense_grid
from kernels.fused_dense import has_bfloat16
from kernels.plane import Places, Plane
from kernels.scorer import WindowScorer
from schemas.errors import Misconfigured
from schemas.search_grid import SearchGrid
from tests.flows.model_support import write_cells, write_windows


@pytest.fixture
def plane():
    pixels = np.random.default_rng(1).normal(0, 2, (60, 80)).astype(np.float32)
    return Plane(pixels, np.ones(pixels.shape, bool), 0.0, 2.0, np.ones((1, 1)), 2.2)


def test_a_card_of_windows_makes_a_window_scorer(tmp_path, plane):
    card = write_windows(tmp_path, threshold=0.3)
    detector = load_model("detect", str(tmp_path), threshold=0.2, stride=9, precision="float32")
    assert isinstance(detector, WindowScorer)
    assert detector.card == card
    assert detector.grid == SearchGrid(26, 9, 0, 26)
    assert detector.floor == pytest.approx(logit(0.2))
    assert load_model("detect", str(tmp_path)).floor == pytest.approx(logit(0.3))
    automatic = load_model("detect", str(tmp_path), precision="auto").precision
    assert automatic == ("bfloat16" if has_bfloat16() else "float32")
    assert np.isfinite(detector.search(plane, Places(0, 0, 4, 7, 9))[0]).all()


def test_a_card_of_cells_makes_a_dense_search(tmp_path, plane):
    card = write_cells(tmp_path, dilations=(1, 2), channels=12)
    detector = load_model("detect", str(tmp_path))
    assert isinstance(detector, DenseSearch)
    assert not detector.net.training
    assert detector.card == card
    assert detector.grid == dense_grid(4) == SearchGrid(**card.input["grid"])
    _, arrays = read_weights("detect", str(tmp_path))
    assert arrays.keys() == detector.net.state_dict().keys()
    for name, value in detector.net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), arrays[name])
    assert np.isfinite(detector.search(plane, Places(0, 0, 15, 20, 4))[0]).all()
    automatic = load_model("detect", str(tmp_path), precision="auto").precision
    assert automatic == ("bfloat16" if has_bfloat16() else "float32")


def test_cells_have_no_screen(tmp_path):
    write_cells(tmp_path)
    with pytest.raises(Misconfigured, match=r"detect.screen: .* has no windows to leave out. To fix, set it to false"):
        load_model("detect", str(tmp_path), screen=True)


def test_a_kind_of_the_future_is_refused(tmp_path):
    card = write_cells(tmp_path)
    card = card.model_copy(update={"input": card.input | {"kind": "strings"}})
    with pytest.raises(Misconfigured, match=r"is a detector of kind 'strings', which this version does not know"):
        build_detector(card, {}, "folder", "cpu", "auto", None, 1024, False, 7)
