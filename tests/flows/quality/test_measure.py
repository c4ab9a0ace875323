import numpy as np
import pytest

from flows.adapters.ledger import Ledger
from flows.evaluation.recovery import read_recoveries
from flows.quality.exposures import look
from flows.quality.measure import measure
from flows.report.sky import depth
from schemas.cause_count import CauseCount
from schemas.exposure import PsfModel
from tests.flows.report.conftest import NIGHT, make_info, make_rows, publish, put_in

CAUSES = {"cosmic_ray": CauseCount(refused=6, published=1), "spike": CauseCount(refused=2)}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for visit, width, band in ((101, 2.0, "r"), (102, 2.4, "r"), (103, 3.0, "r"), (104, 2.2, "g")):
        info = make_info((120, 130), visit, band=band, psf=PsfModel(fwhm_px=width))
        rows = make_rows(info, 8, visit)
        rows[0]["trailClass"] = "satellite"
        put_in(folder, publish(folder, info, rows, visit, causes=CAUSES), 400, visit)
    return folder


@pytest.fixture(scope="module")
def measured(out):
    return measure(look(out, Ledger(out).records(NIGHT)), read_recoveries(out, NIGHT))


def test_bands_are_measured_apart(measured):
    assert [(one.instrument, one.band, one.exposures) for one in measured] == [("ZTF", "g", 1), ("ZTF", "r", 3)]


def test_values_are_those_of_the_exposures(out, measured):
    band = measured[1]
    seeing = band.measure("seeing")
    assert (seeing.unit, seeing.n) == ("arcsec", 3)
    assert seeing.value == pytest.approx(2.4, rel=1e-3)  # pixels of 1 arcsec
    assert seeing.error == pytest.approx(np.sqrt(np.pi / 2 / 3) * np.std([2.0, 2.4, 3.0], ddof=1), rel=1e-3)
    assert band.measure("depth").value == pytest.approx(depth(make_info((120, 130), psf=PsfModel(fwhm_px=2.4))))
    assert band.measure("zero_point").value == 26.3
    assert band.measure("noise").value == 12.0
    recovery = next(one for one in read_recoveries(out, NIGHT) if one.band == "r" and one.detector is None)
    assert band.measure("snr_of_half").value == recovery.snr.value


def test_rates_are_per_exposure_and_satellites_do_not_count_as_false(out, measured):
    sources = [one.sources for one in look(out, Ledger(out).records(NIGHT)) if one.info.band == "r"]
    doubt = sum((1 - table["reliability"].to_numpy()[1:].astype(float)).sum() for table in sources)
    band = measured[1]
    assert band.measure("detections").value == 8
    assert band.measure("expected_false").value == pytest.approx(doubt / 3)
    assert band.measure("refused").value == 8
    assert band.measure("cosmic_rays").value == 6
    assert band.measure("cosmic_rays").error == pytest.approx(np.sqrt(18) / 3)
    assert next(one for one in band.sketches if one.feature == "snr").n == 21


def test_what_is_not_known_has_no_value(tmp_path):
    info = make_info((120, 130), zero_point=None, wcs_header=None, psf=PsfModel(fwhm_px=2.0, source="assumed"))
    (band,) = measure(look(tmp_path, [publish(tmp_path, info, [], 1)]), ())
    reasons = {one.metric: one.reason for one in band.measures if one.value is None}
    assert reasons == {
        "seeing": "the PSFs are assumed", "depth": "no zero point", "zero_point": "not given",
        "limiting_magnitude": "no synthetic streaks", "snr_of_half": "no synthetic streaks",
        "refused": "the causes were not counted", "cosmic_rays": "the causes were not counted",
    }  # fmt: skip
    assert band.search == ""
