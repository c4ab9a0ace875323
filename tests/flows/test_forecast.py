import io
import shutil

import pytest
from rich.console import Console

from flows.adapters.sources import Source, list_sources
from flows.forecast import as_json, forecast, show
from flows.night_work import planner
from schemas.settings import InjectSettings, Settings
from tests.flows.night_support import settings_of

pytest_plugins = ("tests.flows.night_fixture",)


@pytest.fixture
def settings(night_models):
    return settings_of(night_models)


def files(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_each_exposure_has_its_action_and_reason(raw_night, uninterrupted, settings, tmp_path):
    _, done = uninterrupted
    out = shutil.copytree(done, tmp_path / "out")
    before = files(out)
    sources = list_sources([str(raw_night)], settings)
    assert {(one.action, one.code) for one in forecast(sources, out, settings)} == {("skip", "current")}
    changed = settings.model_copy(update={"inject": InjectSettings(streaks=7)})
    found = forecast(sources, out, changed)
    assert {(one.action, one.code) for one in found} == {("search", "outdated")}
    assert all("injection" in one.why and "dia_source" not in one.why for one in found)
    next(iter((out / "catalogs" / "dia_source").rglob("*.parquet"))).write_bytes(b"spoilt")
    codes = sorted(one.code for one in forecast(sources, out, settings))
    assert codes == ["current"] * (len(sources) - 1) + ["damaged"]
    assert set(files(out)) == set(before)


def test_nothing_is_written_of_what_cannot_be_used(raw_night, settings, tmp_path):
    (tmp_path / "bad.fits").write_text("no image")
    sources = [*list_sources([str(raw_night)], settings), Source(str(tmp_path / "bad.fits"))]
    found = forecast(sources, tmp_path / "out", settings)
    assert [(one.action, one.code) for one in found] == [
        ("quarantine", "not_fits"),
        *[("search", "new")] * (len(sources) - 1),
    ]
    assert not (tmp_path / "out").exists()


def test_the_forecast_is_what_a_run_would_do(raw_night, settings, tmp_path):
    sources = list_sources([str(raw_night)], settings)
    found = forecast(sources, tmp_path / "out", settings)
    todo = planner(tmp_path / "out", settings).plan(sources).todo
    assert [(one.night, one.visit, one.detector) for one in found] == [
        (item.key.night, item.key.visit, item.key.detector) for item in todo
    ]


def test_it_is_told_in_lines_and_counts(raw_night, settings, tmp_path):
    sources = list_sources([str(raw_night)], settings)
    found = forecast(sources, tmp_path, Settings())
    console = Console(file=io.StringIO(), width=500)
    show(found, console)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == len(sources) + 1
    assert lines[0].startswith("search")
    assert "not in the ledger yet" in lines[0]
    assert as_json(found)["counts"] == {"search": len(sources)}
