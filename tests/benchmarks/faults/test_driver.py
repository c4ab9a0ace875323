import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from benchmarks.faults.driver import FAULTS, suffer
from benchmarks.faults.fault import Fault
from benchmarks.faults.lab import SMALL, lab
from benchmarks.faults.table import summary
from flows.storage.ledger import Ledger
from tests.support.services import place

pytest_plugins = ("tests.support.night_fixture",)
pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.faults]
SEED = 11
ELSEWHERE = {
    "flow process killed", "SIGTERM", "delivered twice, files", "delivered twice, messages", "corrupt exposures",
    "Prefect server restarted", "PostgreSQL restarted",
}  # fmt: skip
"""Faults that other tests of the suite do to a night, and compare its bytes: test_faults.py, stream/test_stream.py and
schedule/test_scheduled_night.py in tests/flows/nights."""

BY_HAND = {
    "flow process killed, patches", "SIGTERM, patches", "Dask scheduler killed, patches", "disk full, patches",
    "S3 down, patches", "visit delivered twice", "flow process killed, association", "worker killed",
    "clock jumps forwards", "file half written, run", "Dask scheduler killed", "S3 down",
}  # fmt: skip
"""Faults that only `python -m benchmarks.faults` does: those of the tests that are like them take long enough."""


@pytest.fixture(scope="module")
def night(prefect_api):
    with place() as folder, lab(folder, SMALL, SEED, prefect_api) as made:
        yield made


@pytest.mark.parametrize(
    "fault", [one for one in FAULTS if one.name not in ELSEWHERE | BY_HAND], ids=lambda fault: fault.name
)
def test_a_night_survives(fault, night):
    outcome = suffer(night, fault, SEED)
    if not outcome.available and "NIGHTSTRIDE_REQUIRE_SERVICES" not in os.environ:
        pytest.skip(outcome.failure)
    assert outcome.survived, outcome


def test_damage_is_told(night):
    """One exposure is not there, of others a catalogue is lost, there twice, or damaged; something is left."""
    rows = {}

    def damage(scene):
        shutil.copytree(night.folder / "undisturbed", scene.out)
        ledger, name = Ledger(scene.out), "dia_source"
        found = sorted(ledger.records(), key=lambda record: record.datasets[name].rows)[-4:]
        counts = [one.datasets[name].rows for one in found]
        rows.update(zip(("absent", "lost", "double", "damaged"), counts, strict=True))
        absent, lost, double, damaged = (scene.out / one.datasets[name].path for one in found)
        ledger.remove(found[0].key)
        absent.unlink()
        lost.unlink()
        elsewhere = scene.out / "catalogs/dia_source/night=20000101" / double.name
        elsewhere.parent.mkdir()
        elsewhere.write_bytes(double.read_bytes())
        damaged.write_bytes(damaged.read_bytes()[:-1])
        (scene.out / "staging" / "left").touch()
        with closing(sqlite3.connect(scene.out / "association.sqlite")) as store:
            store.execute("DELETE FROM dia_object WHERE diaObjectId = (SELECT min(diaObjectId) FROM dia_object)")
            store.commit()

    found = suffer(night, Fault("damage", "by hand", damage), SEED)
    assert not found.survived
    assert (found.failure, found.exposures_lost, found.exposures_duplicated) == (None, 1, 1)
    assert found.rows_duplicated == rows["double"] > 0
    assert found.rows_lost == rows["absent"] + rows["lost"] + rows["damaged"] > 0
    assert found.files_differing == 4
    assert found.associated_differing == 1
    assert found.problems >= 3
    assert len(found.leftovers) == 1


def test_a_fault_after_the_work_is_none(night):
    def late(scene):
        shutil.copytree(night.folder / "undisturbed", scene.out)
        scene.strike(lambda: None)

    outcome = suffer(night, Fault("late", "after the end", late), SEED)
    assert outcome.failure == "all exposures were done before"
    assert not outcome.survived
    assert summary(night, SEED, [outcome])["survived"] is False
