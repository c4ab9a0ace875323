"""Objects of the difference images: repeated detections at one position, over nights."""

from collections.abc import Iterator, Sequence
from enum import IntFlag

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.dataset import TableOf, column
from schemas.objects import BANDS


class DiaObjectFlag(IntFlag):
    """Bits of ``flags`` in `dia_object`."""

    STATIONARY = 1  # seen again on another visit, when anything moving would be elsewhere
    VARIABLE_STAR = 2  # a detection of the night lies on a star and is only part of its light
    NUCLEAR = 4  # a detection of the night lies on the core of a galaxy


ASSOCIATION = TableOf(
    "association",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "Detection."),
            column("diaObjectId", pa.int64(), "", "Its object."),
            column("night", pa.string(), "", "Night of the detection, YYYYMMDD."),
            column("x", pa.float64(), "", "Direction (ICRS), first component of the unit vector."),
            column("y", pa.float64(), "", "Second component."),
            column("z", pa.float64(), "", "Third component."),
            column("weight", pa.float64(), "arcsec-2", "Inverse variance of the position along each axis."),
            column("separation", pa.float64(), "arcsec", "From the object's place when it was associated."),
            column("midpointMjdTai", pa.float64(), "d", "Middle of the exposure, MJD TAI."),
            column("band", pa.string(), "", "Filter band."),
            column("psfFlux", pa.float64(), "nJy", "Flux of a point source.", nullable=True),
            column("psfFluxErr", pa.float64(), "nJy", "Its standard error.", nullable=True),
        ]
    ),
)
"""Detections, up to and including a night, of the objects seen in that night. From the association's store, not from a
stage, and not published."""


_STATISTICS = ("Ndata", "Mean", "MeanErr", "Sigma", "Chi2", "StetsonJ", "Min", "Max")
"""Suffixes of the columns of a band, in the order of `kernels.linking.association.FluxStatistics`."""


def flux_statistics_arrays(band: str, statistics: Sequence[NDArray[np.generic]]) -> dict[str, pa.Array]:
    """Return the values of `flux_statistics_columns`, in the same order; NaN becomes null."""
    types = {"Ndata": pa.int32()}
    return {
        f"{band}_psfFlux{end}": pa.array(values, types.get(end, pa.float32()), from_pandas=True)
        for end, values in zip(_STATISTICS, statistics, strict=True)
    }


def motion_arrays(
    east: NDArray[np.float64], north: NDArray[np.float64], error: NDArray[np.float64], known: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Return the values of `motion_columns` for motions in mas / yr; null where the motion is unknown."""
    columns = {"pmRa": east, "pmRaErr": error, "pmDec": north, "pmDecErr": error}
    return {name: pa.array(values, pa.float32(), mask=~known) for name, values in columns.items()}


def _float(name: str, unit: str, doc: str, ucd: str) -> pa.Field:
    return column(name, pa.float32(), unit, doc, nullable=True, ucd=ucd)


def flux_statistics_columns(band: str, what: str) -> Iterator[pa.Field]:
    """Yield the columns of the statistics of psfFlux in a band; ``what`` is a plural noun for their descriptions."""
    flux, name = "phot.flux.density;em.opt", f"{band}_psfFlux"
    yield column(f"{name}Ndata", pa.int32(), "", f"{what} in {band} with psfFlux and its error.")
    yield _float(f"{name}Mean", "nJy", f"Mean of psfFlux in {band} by the errors.", f"{flux};stat.mean")
    yield _float(f"{name}MeanErr", "nJy", "Its standard error.", f"stat.error;{flux};stat.mean")
    yield _float(f"{name}Sigma", "nJy", "Standard deviation of psfFlux; null of fewer than two.", f"stat.stdev;{flux}")
    yield _float(f"{name}Chi2", "", "Chi squared of psfFlux about the mean.", "stat.fit.chi2")
    yield _float(
        f"{name}StetsonJ", "", "Variability index J (Stetson 1996, PASP 108, 851); null of fewer than two.",
        "stat.value;src.var.index",
    )  # fmt: skip
    yield _float(f"{name}Min", "nJy", "Least psfFlux.", f"{flux};stat.min")
    yield _float(f"{name}Max", "nJy", "Largest psfFlux.", f"{flux};stat.max")


def motion_columns() -> Iterator[pa.Field]:
    """Yield the columns of the proper motion."""
    for axis, name in (("Ra", "ra times cos(dec)"), ("Dec", "dec")):
        ucd = f"pos.pm;pos.eq.{axis.lower()}"
        yield _float(
            f"pm{axis}", "mas / yr", f"Proper motion in {name}, without parallax; null of fewer than 3 nights, or less "
            "than 30 days.", ucd,
        )  # fmt: skip
        yield _float(f"pm{axis}Err", "mas / yr", "Its standard error.", f"stat.error;{ucd}")


DIA_OBJECT = TableOf(
    "dia_object",
    pa.schema(
        [
            column(
                "diaObjectId", pa.int64(), "", "diaSourceId of the detection that began it; it never changes.",
                ucd="meta.id;meta.main",
            ),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS); mean of the detections, by their errors."),
            column("dec", pa.float64(), "deg", "Declination (ICRS); likewise."),
            column("raErr", pa.float32(), "deg", "Standard error of ra times cos(dec)."),
            column("decErr", pa.float32(), "deg", "Standard error of dec."),
            column("nDiaSources", pa.int32(), "", "Detections up to this night, in all bands."),
            column(
                "firstDiaSourceMjdTai", pa.float64(), "d", "Middle of the first of their exposures, MJD TAI.",
                ucd="time.epoch;stat.min",
            ),
            column(
                "lastDiaSourceMjdTai", pa.float64(), "d", "Middle of the last of their exposures, MJD TAI.",
                ucd="time.epoch;stat.max",
            ),
            *(field for band in BANDS for field in flux_statistics_columns(band, "Detections")),
            column("flags", pa.int32(), "", "Bits: " + ", ".join(f"{one.value} {one.name}" for one in DiaObjectFlag)
                   + "."),
            column(
                "radecMjdTai", pa.float64(), "d", "When the object is at ra, dec: mean time of the detections, by "
                "their errors, MJD TAI.", ucd="time.epoch;pos",
            ),
            *motion_columns(),
        ]
    ),
    product=True,
    ids="diaObjectId",
)  # fmt: skip

DIA_OBJECT_SOURCE = TableOf(
    "dia_object_source",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "Detection of the night; trails and what has no place are left out."),
            column("diaObjectId", pa.int64(), "", "Its object in `dia_object`."),
            column(
                "separation", pa.float32(), "arcsec", "From the object's place by its detections before this one: "
                "their mean position, or where its proper motion brings it; 0 of its first.",
            ),
        ]
    ),
    product=True,
    ids="diaSourceId",
)  # fmt: skip
