"""A small simulated night, models without training, and ways to run ``nightstride`` on them."""

import json
import os
import shutil
from dataclasses import asdict
from unittest.mock import patch

import numpy as np
import pytest
from scipy.special import expit

from flows.inputs.ingest import prepare
from flows.inputs.sources import list_sources
from flows.nights.cluster.prefect_server import PrefectServer
from flows.pipeline.models import load_model
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from schemas.settings import Settings
from tests.support.cli import Finished
from tests.support.models import write_reliability, write_windows
from tests.support.night import DETECTORS, TWO_WORKERS, VISITS, Command
from tests.support.shared import kept_running, made_once


@pytest.fixture(scope="session")
def raw_night(tmp_path_factory):
    """Folder with a night of 2 visits x 2 detectors, 200 x 210 px each, in the archive's format."""

    def make(folder):
        raw = folder / "raw"
        night = SimulatedNight(find_preset("ztf", 3, (200, 210)), 11, VISITS, DETECTORS, raw)
        simulate_night(night, 1, lambda done: None)
        (raw / "truth.parquet").rename(folder / "truth.parquet")

    return made_once(tmp_path_factory, "night", make) / "raw"


@pytest.fixture(scope="session")
def night_models(tmp_path_factory, raw_night):
    """Folder with an untrained network that takes a few windows in a hundred for asteroids, and a verdict of 1/2."""
    return made_once(tmp_path_factory, "models", lambda folder: _write_models(folder, raw_night))


def _write_models(folder, raw_night):
    write_windows(folder)
    _, planes = prepare(list_sources([str(raw_night)], Settings())[0], Settings())
    windows = np.lib.stride_tricks.sliding_window_view(planes["difference"], (26, 26))[::7, ::7].reshape(-1, 1, 26, 26)
    scaled = (windows - windows.mean((2, 3), keepdims=True)) / windows.std((2, 3), keepdims=True)
    logits = load_model("detect", str(folder))(np.ascontiguousarray(scaled, np.float32))
    write_windows(folder, threshold=float(expit(np.quantile(logits, 0.97))))
    write_reliability(folder)


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory):
    """Variables that name one Prefect server for all runs of the tests, which saves each of them seconds."""

    def start():
        with patch.dict(os.environ, {"PREFECT_HOME": str(_prefect_home(tmp_path_factory))}):
            os.environ.pop("PREFECT_API_URL", None)
            server = PrefectServer()
            variables = {name: os.environ[name] for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")}
        server.wait()
        return variables, server.stop

    with kept_running(tmp_path_factory, "prefect_api", start) as variables:
        yield variables


@pytest.fixture
def prefect_home(tmp_path_factory):
    """Folder for a Prefect server of a test's own."""
    return _prefect_home(tmp_path_factory)


def _prefect_home(tmp_path_factory):
    """Return a folder with a database that is set up, which takes a new server ten seconds."""

    def make(folder):
        with patch.dict(os.environ, {"PREFECT_HOME": str(folder)}):
            os.environ.pop("PREFECT_API_URL", None)
            server = PrefectServer()
            server.wait()
            server.stop()

    template = made_once(tmp_path_factory, "prefect", make)
    return shutil.copytree(template, tmp_path_factory.mktemp("prefect") / "home")


@pytest.fixture(scope="session")
def nightstride_run(night_models, prefect_api):
    """Run ``nightstride run ... --json`` with the models above, on the server above."""
    return Command(night_models, prefect_api)


@pytest.fixture(scope="session")
def uninterrupted(nightstride_run, raw_night, tmp_path_factory):
    """Summary and output folder of a run of the night by two workers, which nothing disturbed."""

    def make(folder):
        run = nightstride_run(raw_night, "--out", folder / "out", **TWO_WORKERS)
        (folder / "run.json").write_text(json.dumps(asdict(run)))

    folder = made_once(tmp_path_factory, "uninterrupted", make)
    return Finished(**json.loads((folder / "run.json").read_text())), folder / "out"
