import numpy as np
import pytest
import torch

from flows.adapters.candidate_detectors import KINDS, NET
from flows.adapters.weights import load_model, write_model
from flows.training.candidate_card import candidate_card
from kernels.candidate_search import CANDIDATE_GRID
from kernels.nets.candidate_cnn import CandidateCnn
from kernels.plane import Places, Plane
from kernels.shape_features import FEATURES

ARRAYS = {
    "root": np.array([0], np.int32),
    "feature": np.array([-1], np.int16),
    "limit": np.zeros(1),
    "left": np.zeros(1, np.int32),
    "right": np.zeros(1, np.int32),
    "value": np.array([2.0]),
    "base": np.array([0.5]),
    "floor": np.array([4.5]),
}


def arrays():
    torch.manual_seed(1)
    return ARRAYS | {NET + key: value.numpy() for key, value in CandidateCnn(len(FEATURES)).state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_made_of_its_files_searches(tmp_path, kind):
    card = candidate_card(kind, {"kind": kind, "share": 0.0, "tree_floor": 0.0}, {}, {}, 0.5)
    write_model(tmp_path, arrays(), card)
    detector = load_model("detect", str(tmp_path))
    assert detector.grid == CANDIDATE_GRID
    assert detector.card.name == kind
    image = np.zeros((120, 120), np.float32)
    image[58:61, 60:63] = 12
    plane = Plane(image, np.ones(image.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    logits, _ = detector.search(plane, Places(0, 0, 30, 30, 4))
    assert np.isfinite(logits).sum() >= 1
    if kind != "matched_filter":
        assert logits.max() == pytest.approx(2.5)
