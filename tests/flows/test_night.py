import pytest

from flows.cluster import Cluster
from flows.night import Night


def test_holds_a_tally_and_nothing_that_was_not_declared():
    night = Night([], None, None, None, None, None)
    assert not night.tally.finished
    assert not hasattr(night, "__dict__")  # Prefect would store a copy of all of it
    with pytest.raises(AttributeError):
        night.surprise = 1


@pytest.mark.parametrize(
    ("workers", "exposures", "tasks"), [(2, 6, 4), (64, 6, 11), (16, 1, 16), (1, 0, 4), (2, 31, 4), (2, 32, 1)]
)
def test_few_tasks_search_an_exposure_unless_workers_would_have_nothing_to_do(workers, exposures, tasks):
    cluster = Cluster("tcp://here", workers, 2**30)
    assert Night([None] * exposures, None, None, None, None, cluster).tasks == tasks


def test_the_last_exposures_of_a_long_night_are_shared_out_again():
    night = Night([None] * 100, None, None, None, None, Cluster("tcp://here", 4, 2**30))
    assert night.tasks == 1
    night.tally.finished |= set(range(37))
    assert night.tasks == 4
    night.tally.finished |= set(range(99))
    assert night.tasks == 4
