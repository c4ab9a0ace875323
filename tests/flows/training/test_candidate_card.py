import numpy as np
import pytest
from scipy.special import logit

from flows.adapters.weights import read_card, read_weights
from flows.training.candidate_card import candidate_card, write_matched_filter
from kernels.line_score import NOISE_ALONE
from schemas.search_grid import SearchGrid


def test_card_names_the_grid_and_the_plan():
    card = candidate_card("boosted", {"kind": "boosted"}, {"seed": 1}, {"train": 3}, {"found": 2}, 0.25)
    assert SearchGrid(**card["input"]["grid"]).stride == 4
    assert card["training"]["plan"] == {"seed": 1}
    other = candidate_card("boosted", {"kind": "boosted"}, {"seed": 2}, {}, {}, 0.25)
    assert card["training"]["digest"] != other["training"]["digest"]


def test_matched_filter_needs_no_learning(tmp_path):
    write_matched_filter(tmp_path)
    card, arrays = read_weights("detect", str(tmp_path))
    assert list(arrays) == ["floor"]
    threshold = read_card("detect", str(tmp_path)).threshold
    assert np.sqrt(2 * logit(threshold) + NOISE_ALONE**2) == pytest.approx(5)
    assert card.input["kind"] == "matched_filter"
