import pytest
from pydantic import ValidationError

from schemas.fetch_summary import FetchSummary
from schemas.summary import Trouble


def test_exit_code_says_whether_all_came():
    summary = FetchSummary(nights=1, exposures=3, whole=2, not_in_archive=1)
    assert summary.exit_code == 0
    trouble = Trouble(uri="ztf", code="damaged", message="ztf: damaged.")
    assert summary.model_copy(update={"whole": 1, "failed": (trouble,)}).exit_code == 1
    assert FetchSummary.model_validate_json(summary.model_dump_json()) == summary


def test_exposures_add_up():
    with pytest.raises(ValidationError, match="exposures must be whole"):
        FetchSummary(nights=1, exposures=3, whole=2)
    with pytest.raises(ValidationError):
        FetchSummary(nights=1, exposures=-1, whole=-1)
