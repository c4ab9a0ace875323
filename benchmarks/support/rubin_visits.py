"""Visits of a camera like Rubin's on tiny images: real headers, few pixels."""

from pathlib import Path

from astropy.io import fits
from astropy.time import Time, TimeDelta

from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset

SIDE = 64
"""Side of an image, px: 16 x 16 cells. One tile, searched by one task, like a whole detector in a night of many."""

CADENCE_S = 37.0
"""Time from one visit to the next, s: exposure 30, readout 2, slew 5 (Ivezić et al. 2019, ApJ 873, 111)."""


def write_visits(folder: Path, visits: int, detectors: int) -> list[Path]:
    """Write one simulated image under the headers of all detectors of some visits; by visit and detector."""
    once = simulate_night(
        SimulatedNight(find_preset("rubin", 3, (SIDE, SIDE)), 11, 1, 1, folder / "once", science=False)
    )
    original = once.exposures[0]
    header = fits.getheader(original)
    pixels = original.read_bytes()[len(header.tostring()) :]
    first = header["HIERARCH LSST BUTLER DATAID VISIT"]
    files = []
    arrived = folder / "arrived"
    arrived.mkdir()
    for visit in range(visits):
        _set_visit(header, first + visit, CADENCE_S if visit else 0.0)
        for detector in range(detectors):
            header["DETECTOR"] = header["HIERARCH LSST BUTLER DATAID DETECTOR"] = detector
            files.append(arrived / f"differenceExp_LSSTCam_{header['BAND']}_{first + visit}_{detector:03d}.fits")
            files[-1].write_bytes(header.tostring().encode() + pixels)
    return files


def _set_visit(header: fits.Header, visit: int, later_s: float) -> None:
    header["HIERARCH LSST BUTLER DATAID VISIT"] = visit
    for name in ("BEG", "AVG", "END"):
        time = Time(header[f"MJD-{name}"], format="mjd", scale="tai") + TimeDelta(later_s, format="sec")
        header[f"MJD-{name}"], header[f"DATE-{name}"] = time.mjd, time.isot
