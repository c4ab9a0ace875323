"""An output folder with the tiles and the ledger of a simulated night, and the targets that its truth tells."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from flows.inputs.prepare import prepare
from flows.inputs.sources import list_sources
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from tests.support.forced import SETTINGS, store


def moving_targets(truth, infos):
    """Rows (name, ra, dec, epoch, rate, position angle) from the first two visits of each streak."""
    rows = {}
    streaks = [row for row in truth if row["kind"] == "streak"]
    for name in sorted({row["objectName"] for row in streaks}):
        seen = sorted((row for row in streaks if row["objectName"] == name), key=lambda row: row["visit"])
        if len(seen) < 2:
            continue
        first, second = (SkyCoord(row["ra"], row["dec"], unit="deg") for row in seen[:2])
        times = [infos[row["visit"]].midpoint_mjd_tai for row in seen[:2]]
        rate = first.separation(second).to_value(u.arcsec) / ((times[1] - times[0]) * 24)
        angle = first.position_angle(second).to_value(u.deg)
        rows[name] = (first.ra.deg, first.dec.deg, times[0], rate, angle)
    return rows


@pytest.fixture(scope="session")
def forced_night(tmp_path_factory):
    """Output folder, metadata by visit, and truth of a small field visited thrice; streaks of S/N 0.7 to 30."""
    raw, out = tmp_path_factory.mktemp("forced_raw"), tmp_path_factory.mktemp("forced") / "out"
    preset = replace(find_preset("ztf", 40, (900, 920)), snr=(0.7, 30.0), lengths=(0.3, 6.0))
    written = simulate_night(SimulatedNight(preset, 23, 3, 1, raw), 1, lambda done: None)
    truth = pq.read_table(written.truth).to_pylist()
    written.truth.unlink()
    infos = {}
    for source in list_sources([str(raw)], SETTINGS):
        info, planes = prepare(source, SETTINGS)
        store(out, info, planes)
        infos[info.visit] = info
    return out, infos, truth


@pytest.fixture(scope="session")
def target_file(forced_night, tmp_path_factory):
    """CSV file of the targets of `forced_night`."""
    _, infos, truth = forced_night
    path = tmp_path_factory.mktemp("targets") / "targets.csv"
    lines = ["name,ra,dec,epoch,rate,position_angle"]
    lines += [f"{name},{','.join(map(str, row))}" for name, row in moving_targets(truth, infos).items()]
    path.write_text("\n".join(lines))
    return path
