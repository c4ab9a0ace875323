import pytest

from flows.report.exposure_row import HEADINGS, exposure_row
from flows.report.night import read_night
from flows.report.sky import depth


@pytest.fixture
def exposure(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    return read_night(tmp_path, kit.NIGHT, None).exposures[0]


def told(exposure, info):
    row = exposure_row(exposure, info)
    return dict(zip((name for name, _ in HEADINGS), row.cells, strict=True))


def test_all_is_known(kit, exposure):
    info = kit.info()
    assert told(exposure, info) == {
        "Visit": "101",
        "Detector": "3",
        "Band": "r",
        "Middle": "2026-11-03 07:12:49",
        "Seeing": "2.20″",
        "Noise": "12.00 adu",
        "Zero point": "26.300",
        "Depth": f"{depth(info):.2f}",
        "Masked": "0.0 %",
        "Windows": "3,000",
        "Unscored": "40",
        "Detections": "9",
        "Refused": "–",
        "Worker time": "6.4",
        "Notes": "",
    }


def test_no_sky_and_no_zero_point(kit, exposure):
    bare = kit.info(wcs_header=None, zero_point=None, flags=("no_wcs", "no_zero_point", "odd_thing"))
    cells = told(exposure, bare)
    assert (cells["Seeing"], cells["Zero point"], cells["Depth"]) == ("2.20 px", "–", "–")
    assert cells["Notes"] == "no WCS, no zero point, odd thing"


def test_tiles_are_gone(exposure):
    cells = told(exposure, None)
    assert {cells[name] for name in ("Band", "Middle", "Seeing", "Noise", "Zero point", "Depth", "Masked")} == {"–"}
    assert (cells["Windows"], cells["Notes"]) == ("3,000", "tiles are gone")
