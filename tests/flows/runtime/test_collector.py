import gc

import pytest

from flows.runtime.collector import collector_paused, resume_collector


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.enable()
    gc.unfreeze()


def test_the_collector_waits_and_works_again_afterwards():
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_works_on_what_is_made_after_it_was_resumed():
    with collector_paused():
        before = gc.get_freeze_count()
        resume_collector()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before + 1000
    assert gc.isenabled()


def test_nothing_is_frozen_where_it_was_not_paused():
    before = gc.get_freeze_count()
    resume_collector()
    assert gc.get_freeze_count() == before


def test_one_that_was_off_stays_off():
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()
