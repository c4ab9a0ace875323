import numpy as np
import pytest
from scipy.special import logit

from flows.adapters.weights import read_card, read_weights
from flows.training.candidate_card import candidate_card, write_matched_filter
from schemas.search_grid import SearchGrid
from schemas.settings import NOISE_ALONE


def test_card_names_the_grid_and_how_it_was_made():
    card = candidate_card("boosted", {"kind": "boosted"}, {"plan": 1}, {"found": 2}, 0.25)
    assert SearchGrid(**card["input"]["grid"]).stride == 4
    assert (card["training"], card["metrics"], card["threshold"]) == ({"plan": 1}, {"found": 2}, 0.25)


def test_matched_filter_needs_no_learning(tmp_path):
    write_matched_filter(tmp_path)
    card, arrays = read_weights("detect", str(tmp_path))
    assert list(arrays) == ["floor"]
    threshold = read_card("detect", str(tmp_path)).threshold
    assert np.sqrt(2 * logit(threshold) + NOISE_ALONE**2) == pytest.approx(10, abs=0.01)
    assert card.input["kind"] == "matched_filter"
