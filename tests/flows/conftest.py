import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from fsspec.implementations.local import LocalFileSystem

from flows.inputs.source import Source
from tests.support.cameras import write_cameras
from tests.support.shared import made_once

ZTF_CARDS = {
    "ORIGIN": "Zwicky Transient Facility",
    "INSTRUME": "ZTF/MOSAIC",
    "EXPTIME": 30.0,
    "FILTERID": 3,
    "FILTER": "ZTF_i",
    "OBSJD": 2458748.7908681,
    "OBSMJD": 58748.2908681,
    "CCDID": 15,
    "QID": 4,
    "RCID": 59,
    "EXPID": 99429086,
    "MAGZP": 25.352175,
    "MAGZPUNC": 1.13e-5,
    "SEEING": 1.8,
    "GAIN": 6.2,
    "SATURATE": 49390.965,
    "RADESYS": "ICRS",
    "CTYPE1": "RA---TPV",
    "CTYPE2": "DEC--TPV",
    "CUNIT1": "deg",
    "CUNIT2": "deg",
    "CRPIX1": 1051.5,
    "CRPIX2": -1509.5,
    "CRVAL1": 8.258020389934,
    "CRVAL2": -0.2283806799414,
    "CD1_1": -2.812804331949e-4,
    "CD1_2": 8.307355719223e-7,
    "CD2_1": -8.435668283411e-7,
    "CD2_2": -2.812971646881e-4,
    "PV1_0": 1.8e-5,
    "PV1_1": 0.99999,
    "PV1_4": -2.0e-4,
    "PV2_1": 1.00008,
    "PV2_7": -4.7e-4,
}
"""Keywords of a real ZTF product."""

ZTF_STEM = "ztf_20190922290868_000397_zi_c15_o_q4"


@pytest.fixture
def sky():
    """Noise of 7 units about 0, correlated like resampled noise."""
    white = np.random.default_rng(20190922).normal(0, 7, (201, 221))
    return (0.8 * white[:-1, :-1] + 0.6 * white[:-1, 1:]).astype(np.float32)


@pytest.fixture
def write_ztf(tmp_path, sky):
    """Write a difference image as the archive has it; a card of None is left out."""

    def write(pixels=None, folder: Path = tmp_path, *, compressed=True, product="scimrefdiffimg", **cards) -> str:
        header = fits.Header()
        for key, value in {**ZTF_CARDS, **cards}.items():
            if value is not None:
                header[key] = value
        pixels = sky if pixels is None else pixels
        path = folder / f"{ZTF_STEM}_{product}.fits{'.fz' if compressed else ''}"
        if compressed:
            image = fits.CompImageHDU(
                pixels, header, compression_type="RICE_1", quantize_level=4, quantize_method=1, dither_seed=7
            )
            hdus = fits.HDUList([fits.PrimaryHDU(), image])
        else:
            hdus = fits.HDUList([fits.PrimaryHDU(pixels, header)])
        hdus.writeto(path, checksum=True, overwrite=True)
        return str(path)

    return write


@pytest.fixture
def source(write_ztf, sky):
    """Noise with one bright star-like source."""
    y, x = np.indices(sky.shape)
    return Source(write_ztf(sky + 900 * np.exp(-((y - 90) ** 2 + (x - 130) ** 2) / 6).astype(np.float32)))


@pytest.fixture(scope="session")
def cameras(tmp_path_factory):
    """Difference images of six cameras that nobody configured, two detectors of one of them, by name."""

    def make(folder):
        (folder / "raw").mkdir()
        (folder / "cameras.pickle").write_bytes(pickle.dumps(write_cameras(folder / "raw")))

    return pickle.loads((made_once(tmp_path_factory, "cameras", make) / "cameras.pickle").read_bytes())


@pytest.fixture
def unlisted(monkeypatch):
    """Path of a local folder -> error that listing it raises: root may list what others may not."""
    errors, ls = {}, LocalFileSystem.ls

    def listed(fs, path, *args, **kwargs):
        if path in errors:
            raise errors[path]
        return ls(fs, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "ls", listed)
    return errors
