from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from flows.simulation.exposure import SimulatedExposure, simulate_exposure
from flows.simulation.planes import science_and_template
from flows.simulation.presets import find_preset
from flows.simulation.rubin_files import write_rubin
from schemas.mask import MaskPlane


@pytest.fixture(scope="module")
def exposure() -> SimulatedExposure:
    return simulate_exposure(find_preset("rubin", shape=(300, 400)), 4, 1, 94)


@pytest.fixture(scope="module")
def paths(exposure: SimulatedExposure, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_rubin(exposure, tmp_path_factory.mktemp("rubin"), science_and_template(exposure))


def test_planes_are_the_exposures(exposure: SimulatedExposure, paths: tuple[Path, ...]) -> None:
    assert len({path.name for path in paths}) == 3
    with fits.open(paths[0]) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE"]
        assert np.array_equal(hdus["IMAGE"].data, exposure.difference, equal_nan=True)
        assert np.array_equal(hdus["VARIANCE"].data, exposure.variance)
        assert hdus["IMAGE"].header["BUNIT"] == "nJy"
        mask, header = hdus["MASK"].data, hdus["MASK"].header
    assert mask.dtype.kind == "i"
    for plane in ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA", "STREAK"):
        there = (mask >> header[f"MP_{plane}"]) & 1 == 1
        assert np.array_equal(there, (exposure.mask & np.uint16(MaskPlane[plane])) != 0)


def test_header_names_the_visit_and_its_time(exposure: SimulatedExposure, paths: tuple[Path, ...]) -> None:
    header = fits.getheader(paths[0])
    conditions = exposure.conditions
    assert header["LSST BUTLER DATAID VISIT"] == conditions.visit
    assert header["DETECTOR"] == 94
    assert header["TIMESYS"] == "TAI"
    middle = Time(header["DATE-AVG"], scale="tai")
    assert middle.mjd == pytest.approx(conditions.midpoint_mjd_tai, abs=1e-7)
    assert (Time(header["DATE-END"], scale="tai") - Time(header["DATE-BEG"], scale="tai")).sec == pytest.approx(30)
    assert (header["GAINNJY"], header["SATNJY"]) == (conditions.preset.gain, conditions.preset.saturation)
    assert "GAIN" not in header
    assert "SATURATE" not in header
    assert header["PSF_FWHM"] == pytest.approx(conditions.psf.fwhm, abs=1e-3)


def test_truth_lies_where_the_written_wcs_says(exposure: SimulatedExposure, paths: tuple[Path, ...]) -> None:
    with fits.open(paths[0]) as hdus:
        wcs = WCS(hdus["IMAGE"].header)
    for row in exposure.truth.to_pylist():
        x, y = wcs.all_world2pix(row["ra"], row["dec"], 0)
        assert (float(x), float(y)) == pytest.approx((row["x"], row["y"]), abs=1e-3)
