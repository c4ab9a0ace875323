import pytest

from flows.adapters.weights import load_model
from flows.training.candidate_train import train_candidates
from flows.training.examples import Wanted
from schemas.errors import Misconfigured


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="no detector of candidates"):
        train_candidates("three_stage", tmp_path, tmp_path, 1, 1, print)


def test_the_matched_filter_needs_no_exposures(tmp_path):
    assert train_candidates("matched_filter", tmp_path / "out", tmp_path / "work", 1, 1, print) == {}
    assert load_model("detect", str(tmp_path / "out")).card.name == "matched_filter"
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_trains_from_nothing(tmp_path):
    few = (Wanted("ztf", 2, 12, (420, 450)),)
    figures = train_candidates("boosted", tmp_path / "out", tmp_path / "work", 1, 1, print, few, few)
    assert load_model("detect", str(tmp_path / "out")).card.metrics == figures
