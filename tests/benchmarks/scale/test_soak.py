import os

import numpy as np
import pytest
from scipy.stats import theilslopes

from benchmarks.scale.soak import Sample, deliver, growth, is_flat, soak
from flows.inputs.probe import probe
from flows.inputs.source import Source
from schemas.settings import Settings
from tests.support.night import settings_of

pytest_plugins = ("tests.support.night_fixture",)


def samples(kib, files, exposures=500):
    noise = np.random.default_rng(3).normal(0, 4000, exposures)
    return [
        Sample(done, 9e5 + 50_000 * min(done, 100) / 100 + kib * done + noise[done], 80 + int(files * done))
        for done in range(exposures)
    ]


@pytest.mark.parametrize(("kib", "files", "flat"), [(0, 0, True), (100, 0, False), (0, 0.2, False)])
def test_growth_is_told_from_noise_and_from_what_settles(kib, files, flat):
    memory, opened = growth(samples(kib, files), 500)
    assert memory.low <= kib <= memory.high
    assert opened.slope == pytest.approx(files, abs=0.01)
    assert is_flat(memory, opened) is flat


def test_copies_are_visits_of_their_own(raw_night, tmp_path):
    original = min(raw_night.glob("*scimrefdiffimg*"))
    for number in range(3):
        deliver(original, tmp_path, number)
    found = sorted(tmp_path.glob("*.fits.fz"))
    visits = [probe(Source(str(path)), Settings()).visit for path in found]
    assert visits == [visits[0] + number for number in range(3)]


@pytest.mark.slow
@pytest.mark.services
def test_a_short_soak_is_done_whole_and_opens_no_more_files(raw_night, night_models, prefect_api, tmp_path):
    """Memory needs the long one (`make acceptance`); a file forgotten with each exposure shows here."""
    settings = settings_of(night_models)
    environment = {
        **os.environ,
        **prefect_api,
        **{f"NIGHTSTRIDE_{stage}__MODEL": str(night_models) for stage in ("DETECT", "MEASURE")},
        "NIGHTSTRIDE_EXECUTION__WORKERS": "1",
        "NIGHTSTRIDE_TILES__TILE": str(settings.tiles.tile),
        "NIGHTSTRIDE_TILES__CHUNK": str(settings.tiles.chunk),
    }
    found = soak(min(raw_night.glob("*scimrefdiffimg*")), tmp_path, 24, environment)
    going = [one for one in found if 8 <= one.done < 24]  # once what it keeps is open, and before it closes all
    slope = theilslopes([one.files for one in going], [one.done for one in going]).slope
    assert slope < 0.5  # one that is forgotten for each exposure makes it 1
