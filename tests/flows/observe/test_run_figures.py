import os
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.night_tally import NightTally
from flows.observe.run_figures import require_folder, run_figures, write_figures
from flows.plan import Plan
from flows.provenance import provenance_of
from flows.tally import summarise
from schemas.errors import Misconfigured
from schemas.ledger import Percentiles
from schemas.settings import Settings
from schemas.summary import Trouble
from stages import PIPELINE
from tests.flows.observe.test_meter import outcome

TROUBLE = Trouble(uri="a.fits", code="nan", message="a.fits: all pixels are NaN.")


def summary_of(done):
    outcomes = [outcome(visit, windows=1000, detections=3, seconds={"detect": 2.0}) for visit in range(done)]
    made = summarise(Plan(tuple(one.item for one in outcomes), (), 0, quarantined=(TROUBLE,)), NightTally(outcomes))
    return made.model_copy(update={"seconds": {**made.seconds, "wall": 9.5}})


def read(path):
    families = text_string_to_metric_families(path.read_text())
    return {
        (sample.name.removeprefix("nightstride_run_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_file_holds_what_the_summary_holds(tmp_path):
    path, made = tmp_path / "night.prom", provenance_of(PIPELINE, Settings())
    write_figures(path, run_figures(summary_of(4), 1, made, Percentiles(n=4, p50=30.5, p99=80.25)))
    found = read(path)
    assert found.pop(("end_timestamp_seconds",)) == pytest.approx(time.time(), abs=60)
    infos = [name for name in found if name[0].startswith("nightstride_")]
    assert len(infos) == 1 + len(made.models)
    assert {name: value for name, value in found.items() if name not in infos} == {
        ("exit_code",): 1, ("exposures", "done"): 4, ("exposures", "skipped"): 0, ("exposures", "quarantined"): 1,
        ("exposures", "failed"): 0, ("windows",): 4000, ("windows_unscored",): 0, ("detections",): 12,
        ("night_failed",): 0, ("worker_seconds", "detect"): 8, ("duration_seconds",): 9.5,
        ("lag_seconds", "0.5"): 30.5, ("lag_seconds", "0.99"): 80.25,
    }  # fmt: skip


def test_of_a_run_that_an_error_ended_only_that_is_known(tmp_path):
    write_figures(tmp_path / "a.prom", run_figures(None, 2, None, None))
    assert {name for name, *_ in read(tmp_path / "a.prom")} == {"end_timestamp_seconds", "exit_code"}


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "a.prom"
    write_figures(path, run_figures(summary_of(1), 0, None, None))
    with path.open() as before:
        write_figures(path, run_figures(summary_of(2), 0, None, None))
        assert 'state="done"} 1.0' in before.read()
    assert read(path)["exposures", "done"] == 2
    monkeypatch.setattr(os, "rename", _full)
    with pytest.raises(OSError, match="full"):
        write_figures(path, run_figures(summary_of(3), 0, None, None))
    assert read(path)["exposures", "done"] == 2
    assert os.listdir(tmp_path) == ["a.prom"]  # noqa: PTH208


def _full(*_):
    raise OSError("full")


def test_a_folder_that_is_not_there_is_told_before_any_work(tmp_path):
    require_folder(tmp_path / "a.prom")
    with pytest.raises(Misconfigured, match=r"no folder .*nowhere.*--collector.textfile.directory"):
        require_folder(tmp_path / "nowhere" / "a.prom")
