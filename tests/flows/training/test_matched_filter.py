import numpy as np
import pytest
from scipy.special import logit

from flows.pipeline.weights import read_card, read_weights
from flows.training.matched_filter import write_matched_filter
from schemas.pixels import SearchGrid
from schemas.settings import NOISE_ALONE


def test_matched_filter_needs_no_learning(tmp_path):
    write_matched_filter(tmp_path)
    card, arrays = read_weights("detect", str(tmp_path))
    assert list(arrays) == ["floor"]
    threshold = read_card("detect", str(tmp_path)).threshold
    assert np.sqrt(2 * logit(threshold) + NOISE_ALONE**2) == pytest.approx(10, abs=0.01)
    assert card.input["kind"] == "matched_filter"
    assert SearchGrid(**card.input["grid"]).stride == 4
    assert arrays["floor"].tolist() == [4.4]
    assert card.false_alarm_rate.startswith("S/N 10: ")
