"""A small simulated night, models without training, and ways to run ``nightstride`` on them."""

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
from tests.support.models import write_verdict, write_windows
from tests.support.night import DETECTORS, VISITS, Command


@pytest.fixture(scope="session")
def raw_night(tmp_path_factory):
    """Folder with a night of 2 visits x 2 detectors, 200 x 210 px each, in the archive's format."""
    folder = tmp_path_factory.mktemp("raw")
    night = SimulatedNight(find_preset("ztf", 3, (200, 210)), 11, VISITS, DETECTORS, folder)
    simulate_night(night, 1, lambda done: None)
    (folder / "truth.parquet").rename(folder.parent / "truth.parquet")
    return folder


@pytest.fixture(scope="session")
def night_models(tmp_path_factory, raw_night):
    """Folder with an untrained network that takes a few windows in a hundred for asteroids, and a verdict of 1/2."""
    folder = tmp_path_factory.mktemp("models")
    write_windows(folder)
    _, planes = prepare(list_sources([str(raw_night)], Settings())[0], Settings())
    windows = np.lib.stride_tricks.sliding_window_view(planes["difference"], (26, 26))[::7, ::7].reshape(-1, 1, 26, 26)
    scaled = (windows - windows.mean((2, 3), keepdims=True)) / windows.std((2, 3), keepdims=True)
    logits = load_model("detect", str(folder))(np.ascontiguousarray(scaled, np.float32))
    write_windows(folder, threshold=float(expit(np.quantile(logits, 0.97))))
    write_verdict(folder)
    return folder


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory):
    """Address of one Prefect server for all runs of the tests, which saves each of them seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patch.delenv("PREFECT_API_URL", raising=False)
        server = PrefectServer()
        patch.delenv("PREFECT_API_URL", raising=False)
    server.wait()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def nightstride_run(night_models, prefect_api):
    """Run ``nightstride run ... --json`` with the models above, on the server above."""
    return Command(night_models, {"PREFECT_API_URL": prefect_api})


@pytest.fixture(scope="session")
def uninterrupted(nightstride_run, raw_night, tmp_path_factory):
    """Summary and output folder of a run of the night that nothing disturbed."""
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    return nightstride_run(raw_night, "--out", out), out
