import pytest

from benchmarks.scale.rubin_overhead import FLAT_KIB, Growth, Overhead, run, too_much
from benchmarks.support.rubin_visits import CADENCE_S, write_visits
from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.storage.ledger import Ledger
from schemas.settings import Settings

pytest_plugins = ("tests.support.night_fixture",)


def overhead(scheduler=3.0, high=0.0):
    kinds = ("flow", "orchestrator", "scheduler", "workers")
    ms = dict.fromkeys(kinds, 1.0) | {"scheduler": scheduler}
    return Overhead(100, {}, ms, {kind: Growth(0, 0, high) for kind in kinds}, dict.fromkeys(kinds, 1.0), 1.0, {})


def test_what_is_too_much_is_said():
    assert too_much(overhead()) == []
    (said,) = too_much(overhead(scheduler=6.0))
    assert "scheduler takes 6.0 ms" in said
    assert len(too_much(overhead(high=100.0))) == len(FLAT_KIB)


def test_each_file_is_an_exposure_of_its_own(tmp_path):
    files = write_visits(tmp_path, 2, 3)
    keys = [probe(Source(str(file)), Settings()) for file in files]
    assert [key.detector for key in keys] == [0, 1, 2, 0, 1, 2]
    assert len({key.night for key in keys}) == 1
    first, second = keys[0].visit, keys[3].visit
    assert second == first + 1
    from astropy.io import fits

    starts = [fits.getval(files[n], "MJD-BEG") for n in (0, 3)]
    assert (starts[1] - starts[0]) * 86400 == pytest.approx(CADENCE_S, abs=1e-3)


@pytest.mark.slow
@pytest.mark.services
def test_a_detector_of_many_is_one_task_and_the_last_are_shared_out(prefect_api, tmp_path):
    """Whether memory is flat takes more of them: `python -m benchmarks.scale.rubin_overhead`."""
    found = run(write_visits(tmp_path, 2, 10), tmp_path, 1, prefect_api, period_s=0.4)
    assert found.exposures == 20
    # The last 15 are too few to keep a worker busy with whole ones.
    assert found.tasks["work"] + found.tasks["store"] == 20
    assert 5 <= found.tasks["work"] <= 7
    assert found.tasks["store"] == found.tasks["search"] == found.tasks["finish"]
    counts = found.summary["exposures"]
    assert counts == {"seen": 20, "done": 20, "skipped": 0, "quarantined": 0, "failed": 0}
    assert {(record.visit % 2, record.detector) for record in Ledger(tmp_path / "out").records()} == {
        (visit, detector) for visit in (0, 1) for detector in range(10)
    }
    # MiB; 262 and 180 measured, and of two workers with their nannies 926.
    assert found.peak_mib["flow"] < 600
    assert found.peak_mib["scheduler"] < 400
    assert found.peak_mib["workers"] < 1536
