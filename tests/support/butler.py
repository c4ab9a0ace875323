"""Small Butler repositories with simulated exposures in them, as Rubin's pipelines leave them."""

import sqlite3
from pathlib import Path

from astropy.io import fits
from lsst.daf.butler import Butler, DataCoordinate, DatasetRef, DatasetType, FileDataset, FormatterV2

INSTRUMENT = "LSSTCam"
STACK = "lsst.obs.base.formatters.fitsExposure.FitsExposureFormatter"
TYPES = {"difference": "difference_image", "science": "visit_image", "template": "template_detector"}


class WholeFile(FormatterV2):
    """Stands for the formatter of the Rubin stack, which needs its image library; nothing is read through it."""

    default_extension = ".fits"


def make_repository(root: Path) -> Path:
    """Make an empty one, with a SQLite registry and the default dimensions."""
    Butler.makeRepo(root)
    with Butler.from_config(root, writeable=True) as butler:
        limits = {"detector_max": 250, "visit_max": 2**42, "exposure_max": 2**42}
        butler.registry.insertDimensionData(
            "instrument", {"name": INSTRUMENT, "class_name": "lsst.obs.lsst.LsstCam", **limits}
        )
    return root


def ingest(root: Path, files, run="runs/one", types=TYPES, transfer="copy"):
    """Put simulated files into a repository, each as the dataset of its product, and say that the stack wrote them."""
    with Butler.from_config(root, writeable=True, run=run) as butler:
        datasets = [_dataset(butler, Path(file), run, types) for file in files]
        butler.ingest(*datasets, transfer=transfer)
    with sqlite3.connect(root / "gen3.sqlite3") as registry:
        registry.execute("update file_datastore_records set formatter = ?", (STACK,))
    registry.close()
    return [dataset.refs[0] for dataset in datasets]


def _dataset(butler, file, run, types):
    name = types[file.name.split("Exp_")[0]]
    dataset_type = DatasetType(name, ("instrument", "visit", "detector"), "ExposureF", universe=butler.dimensions)
    butler.registry.registerDatasetType(dataset_type)
    place = insert_records(butler, fits.getheader(file))
    data_id = DataCoordinate.standardize(instrument=INSTRUMENT, universe=butler.dimensions, **place)
    return FileDataset(path=str(file), refs=[DatasetRef(dataset_type, data_id, run=run)], formatter=WholeFile)


def insert_records(butler, header):
    """Tell the registry of the detector, filter, day and visit of a file; give visit and detector."""
    visit, detector, band = header["LSST BUTLER DATAID VISIT"], header["DETECTOR"], header["BAND"]
    day, filter_name = visit // 100_000, f"{band}_01"
    for element, values in {
        "physical_filter": {"name": filter_name, "band": band},
        "detector": {"id": detector, "full_name": f"R22_S{detector:02d}"},
        "day_obs": {"id": day},
        "visit": {"id": visit, "name": str(visit), "physical_filter": filter_name, "day_obs": day},
    }.items():
        butler.registry.syncDimensionData(element, {"instrument": INSTRUMENT, **values})
    return {"visit": visit, "detector": detector}
