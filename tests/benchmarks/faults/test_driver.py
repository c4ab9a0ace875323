import pytest

from benchmarks.faults.driver import FAULTS, suffer
from benchmarks.faults.lab import SMALL, lab

pytest_plugins = ("tests.flows.night_fixture",)
pytestmark = pytest.mark.slow
SEED = 11


@pytest.fixture(scope="module")
def night(tmp_path_factory, prefect_api):
    return lab(tmp_path_factory.mktemp("faults"), SMALL, SEED, prefect_api)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_night_survives(fault, night):
    outcome = suffer(night, fault, SEED)
    assert outcome.survived, outcome
