"""A stand-in archive that holds a simulated night, and settings to fetch from it."""

import numpy as np
import pytest
from astropy.io import fits

from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from schemas.archive_settings import FetchSettings
from tests.support.archive import Archive


@pytest.fixture(scope="session")
def ztf_night(tmp_path_factory):
    """Folder with all products of 2 visits x 2 quadrants, named as the archive's."""
    folder = tmp_path_factory.mktemp("ztf")
    night = SimulatedNight(find_preset("ztf", 3, (200, 210)), 13, 2, 2, folder, True, True)
    simulate_night(night, 1, lambda done: None)
    (folder / "truth.parquet").unlink()
    for image in sorted(folder.glob("*_scimrefdiffimg.fits.fz")):
        mask = np.zeros((200, 210), np.int16)
        mask[40:60, 70:90] = 1 << 8  # saturated
        cards = fits.Header([("ORIGIN", "Zwicky Transient Facility")])
        fits.PrimaryHDU(mask, cards).writeto(folder / image.name.replace("scimrefdiffimg.fits.fz", "mskimg.fits"))
    return folder


@pytest.fixture
def archive(ztf_night):
    """The archive, running, with that night in it; a reference image is that of a field, not of an exposure."""
    with Archive() as archive:
        for path in sorted(ztf_night.iterdir()):
            parts = path.name.split("_")
            shared = "_".join([parts[0], *parts[2:5], *parts[6:]])
            archive.add(path, shared if path.name.endswith("refimg.fits") else None)
        yield archive


@pytest.fixture
def settings(archive):
    """Settings to fetch from it without waiting."""
    return FetchSettings(url=archive.url, backoff_s=0.0, retries=3, timeout_s=10.0)
