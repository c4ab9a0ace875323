import numpy as np
import pytest

from flows.adapters.zarr_tiles import write_exposure
from flows.night_pixels import StoredNight
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, PsfModel
from schemas.ledger import ExposureRecord
from schemas.settings import TileSettings


def stored(out, visit, planes):
    info = ExposureInfo(
        night="20260101", visit=visit, detector=0, instrument="test", band="r", midpoint_mjd_tai=61000.0,
        exposure_time_s=30, shape=(40, 50), psf=PsfModel(fwhm_px=2.2), background=0.0, noise=1.0,
        source_uri="memory://none", source_sha256="0" * 64, planes=planes,
    )  # fmt: skip
    pixels = {name: np.full(info.shape, visit, np.float32) for name in ("difference", *planes)}
    pixels["mask"] = np.zeros(info.shape, np.uint16)
    write_exposure(out / "tiles" / info.night / f"{info.name}.zarr", info, pixels, TileSettings(tile=56, chunk=28), "d")
    return ExposureRecord(
        night="20260101", visit=visit, detector=0, source_uri="a", source_sha256="s", digest="d", software="0",
        finished_at="now",
    )  # fmt: skip


def test_gives_the_exposures_with_a_science_image_and_reads_a_plane_at_a_time(tmp_path):
    records = [stored(tmp_path, 1, ("science",)), stored(tmp_path, 2, ()), stored(tmp_path, 3, ("science",))]
    night = StoredNight(tmp_path, records)
    assert [info.visit for info in night.exposures()] == [1, 3]
    np.testing.assert_array_equal(night.read(night.exposures()[1], "science"), np.full((40, 50), 3, np.float32))
    assert night.read(night.exposures()[0], "mask").dtype == np.uint16


def test_missing_tiles_are_bad_input(tmp_path):
    record = stored(tmp_path, 1, ("science",))
    night = StoredNight(tmp_path / "elsewhere", [record])
    with pytest.raises(BadInput, match="run the exposure again"):
        night.exposures()
