"""Cost of forced photometry night by night, on quadrants of ZTF's size.

``python -m benchmarks.scale.forced_history [--nights N] [--exposures N] [--new N]`` prints the figures of
docs/measured/measurement.md: of exposures of one field, and of a last night whose objects are measured on all nights.
"""

from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
from rich.console import Console

from benchmarks.support.command_line import command_line
from flows.nights import forced_history
from flows.nights.progress import Progress
from flows.nights.run import with_catalogues
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import write_exposure
from kernels.sky.patches import cover
from kernels.sky.projection import celestial_wcs
from schemas.dia_source import DIA_SOURCE
from schemas.forced import FORCED_SOURCE
from schemas.pixels import MaskPlane
from schemas.settings import ForcedSettings, Settings
from schemas.summary import ExposureCounts, RunSummary
from tests.support.association import detections, key
from tests.support.forced import MJD, NOISE, WCS_HEADER, plain_info, record_of

SHAPE = (3080, 3072)
KNOWN = 100
"""Number of objects in the field that half of the exposures detect."""

HEADER = WCS_HEADER.replace("CRPIX1  = 151.0", "CRPIX1  = 1536.").replace("CRPIX2  = 141.0", "CRPIX2  = 1540.")


def publish(out, night, visit, planes, new, rng):
    """Put an exposure into the folder, with detections of known objects, and of some that are seen once."""
    mjd = MJD + int(night) - 20260101 + visit / 1000
    info = plain_info(visit=visit, night=night, detector=3, midpoint_mjd_tai=mjd, shape=SHAPE, wcs_header=HEADER)
    write_exposure(tile_path(out, info), info, planes, Settings().tiles, f"d{visit}")
    places = np.random.default_rng(0).uniform(20, 3050, (KNOWN, 2))[rng.random(KNOWN) < 0.5]
    places = np.concatenate([places, rng.uniform(20, 3050, (new, 2))])
    ra, dec = celestial_wcs(HEADER).all_pix2world(*places.T, 0)
    store = CatalogStore(out)
    path = store.publish(DIA_SOURCE, key(visit, night), detections(visit, ra, dec, mjd=mjd), f"{visit}")
    found = {DIA_SOURCE.name: store.record(path)}
    Ledger(out).put(record_of(info, datasets=found, sky=cover(HEADER, SHAPE)))


def finished(out, night, days):
    """Bring a night together; return the processor time that it took, s."""
    counts = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)
    none = {"windows": 0, "unscored": 0, "detections": 0, "not_run": {}, "seconds": {}, "report": None}
    summary = RunSummary(exposures=counts, nights=(night,), **none)
    start, progress = process_time(), Progress(Console(file=StringIO()), 0)
    made = with_catalogues(summary, out, Settings(forced=ForcedSettings(history_days=days)), progress)
    assert made.exit_code == 0, made.night_failed
    return process_time() - start


def rows(out):
    return sum(len(CatalogStore(out).read_path(path, FORCED_SOURCE)) for path in CatalogStore(out).list(FORCED_SOURCE))


def main():
    options = command_line(
        __doc__, nights=4, exposures=(5, "Of each night."), new=(100, "Detections of each that are of no known object.")
    )
    forced_history.HERE = 10**6  # one process
    rng = np.random.default_rng(1)
    mask = np.zeros(SHAPE, np.uint16)
    mask[:, 1000] = MaskPlane.BAD
    planes = {"difference": rng.normal(0, NOISE, SHAPE).astype(np.float32), "mask": mask}
    with TemporaryDirectory() as folder:
        out = Path(folder)
        nights = [f"{20260101 + n}" for n in range(options.nights)]
        for n, night in enumerate(nights):
            for visit in range(options.exposures):
                publish(out, night, 1 + n * options.exposures + visit, planes, options.new, rng)
            without, before = finished(out, night, 0), rows(out)
            seconds = finished(out, night, options.nights)
            added, exposures = rows(out) - before, options.exposures * (n + 1)
            each = f"{1e3 * seconds / exposures:.0f} ms an exposure, {1e3 * seconds / added:.2f} ms a row"
            print(f"| {n + 1} | {without:.1f} s | {seconds:.1f} s | {exposures} | {added:,} | {each} |")
        print(f"nothing new: {finished(out, nights[-1], options.nights):.3f} s")


if __name__ == "__main__":
    main()
