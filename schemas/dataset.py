"""Datasets passed between stages: tables, arrays and files with a declared schema, and the UCDs of columns."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BAND = {"u": "em.opt.U", "g": "em.opt.B", "r": "em.opt.R", "i": "em.opt.I", "z": "em.opt.I", "y": "em.IR.J"}

_NAMES = {
    "diaSourceId": "meta.id;meta.main",
    "objectId": "meta.id;meta.main",
    "hostObjectId": "meta.id.assoc",
    "diaObjectId": "meta.id.assoc",
    "objectName": "meta.id",
    "targetName": "meta.id",
    "targetId": "meta.id",
    "ssObjectId": "meta.id",
    "designation": "meta.id",
    "ephRa": "pos.eq.ra",
    "ephDec": "pos.eq.dec",
    "ephRate": "pos.pm",
    "ephRateAngle": "pos.posAng",
    "ephUncertainty": "stat.error;pos",
    "ephVmag": "phot.mag;em.opt.V",
    "ephOffset": "pos.angDistance",
    "ephOffsetAlongTrack": "pos.angDistance",
    "ephOffsetCrossTrack": "pos.angDistance",
    "topoRange": "pos.distance",
    "helioRange": "pos.distance",
    "phaseAngle": "pos.phaseAng",
    "usable": "meta.code",
    "injectionId": "meta.id",
    "visit": "meta.id;obs",
    "detector": "meta.id;instr.det",
    "band": "meta.id;instr.filter",
    "refBand": "meta.id;instr.filter",
    "kind": "meta.code.class",
    "trailClass": "meta.code.class",
    "satellite": "meta.code",
    "mayHaveFaded": "meta.code",
    "classLabel": "meta.code.class",
    "typeLabel": "meta.code.class",
    "typeScore": "stat.probability",
    "typeOutlierScore": "stat.value",
    "typeModelVersion": "meta.version",
    "unknownReason": "meta.code",
    "photometricSystem": "meta.id;instr.filter",
    "classScore": "stat.probability",
    "outlierScore": "stat.value",
    "anomalyScore": "stat.value",
    "anomalyVerdict": "meta.code",
    "sizeOverPsf": "phys.angSize;arith.ratio",
    "modelVersion": "meta.version",
    "reliabilityVersion": "meta.version",
    "reliability": "stat.probability",
    "pTrail": "stat.probability",
    "pPoint": "stat.probability",
    "pSatellite": "stat.probability",
    "pArtefact": "stat.probability",
    "flags": "meta.code",
    "midpointMjdTai": "time.epoch",
    "firstMjdTai": "time.start",
    "lastMjdTai": "time.end",
    "exposureTime": "time.duration;obs.exposure",
    "trackletId": "meta.id.assoc",
    "stationary": "meta.code",
    "rate": "phys.veloc.ang",
    "arc": "pos.angDistance",
    "rms": "stat.fit.residual",
    "chi2": "stat.fit.chi2",
    "chance": "stat.value",
    "alongOffset": "stat.fit.residual;pos.angDistance",
    "acrossOffset": "stat.fit.residual;pos.angDistance",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "trailRa": "pos.eq.ra",
    "trailDec": "pos.eq.dec",
    "ra_dec_Cov": "stat.covariance;pos.eq.ra;pos.eq.dec",
    "x": "pos.cartesian.x;instr.det",
    "y": "pos.cartesian.y;instr.det",
    "x_y_Cov": "stat.covariance;pos.cartesian.x;pos.cartesian.y",
    "trailCov": "stat.covariance",
    "posErr": "stat.error;pos",
    "snr": "stat.snr",
    "separation": "pos.angDistance",
    "hostSeparation": "pos.angDistance",
    "hostDlr": "pos.angDistance;arith.ratio",
    "halfLightRadius": "phys.angSize",
    "petrosianRadius": "phys.angSize",
    "elongation": "src.morph.param",
    "axisRatio": "src.morph.param",
    "sersic": "src.morph.param",
    "positionAngle": "pos.posAng",
    "angle_deg": "pos.posAng",
    "anglePx": "pos.posAng;instr.det",
    "trailAngle": "pos.posAng",
    "trailAnglePx": "pos.posAng;instr.det",
    "trailLength": "phys.angSize",
    "trailLengthPx": "phys.angSize;instr.det",
    "pixelScale": "instr.scale",
    "fwhm": "instr.obsty.seeing",
    "ebv": "phot.color.excess",
    "sharpness": "src.morph.param",
    "limitSigma": "stat.param",
    "bboxSize": "phys.angSize;instr.det",
    "logitSum": "stat.likelihood",
    "logitPeak": "stat.likelihood",
    "logit": "stat.likelihood",
    "tile": "meta.id",
    "recovered": "meta.code",
    "length": "phys.angSize;instr.det",
    "angle": "pos.posAng;instr.det",
    "measuredSnr": "stat.snr",
    "fluxRatio": "phot.flux.density;arith.ratio",
    "xOffset": "pos.cartesian.x;arith.diff",
    "yOffset": "pos.cartesian.y;arith.diff",
    "lengthOffset": "phys.angSize;arith.diff",
    "clearance": "pos.angDistance",
    "angleOffset": "pos.posAng;arith.diff",
    "magAB": "phot.mag;em.opt",
    "magABLimit": "phot.mag;stat.max;em.opt",
    "magABStd": "stat.stdev;phot.mag;em.opt",
    "reliabilityMax": "stat.probability;stat.max",
    "reliabilityMean": "stat.probability;stat.mean",
}
"""Full column name -> UCD."""

_RULES = (
    (r"(n|num)[A-Z]\w*|\w*Ndata|\w_nExposures", "meta.number"),
    (r"p[A-Z]\w*(?<!Flux)(?<!FluxErr)(?<!Chi2)", "stat.probability"),
    (r"\w*Chi2", "stat.fit.chi2"),
    (r"\w*Evidence", "stat.likelihood"),
    (r"\w*Fraction|visible", "stat.value"),
    (r"\w*FluxUpper", "phot.flux.density;stat.max;em.opt"),
    (r"[a-z]+Flux|flux", "phot.flux.density;em.opt"),
    (r"[a-z]Minus[A-Z]", "phot.color"),
)
"""Pattern of the full column name -> UCD; the first match counts."""


def ucd_of(name: str) -> str:
    """Return the UCD of a column from its name; "" if the name is not known.

    ``<name>Err`` is the error of ``<name>``; ``<band>_<name>`` is ``<name>`` in a band.
    """
    if name in _NAMES:
        return _NAMES[name]
    if found := re.fullmatch(r"([ugrizy])_(psf|ap)(Flux|Mag)0?(Err)?|([ugrizy])_mag", name):
        kind = "phot.flux.density" if found[3] == "Flux" else "phot.mag"
        band = _BAND[found[1] or found[5]]
        return f"stat.error;{kind};{band}" if found[4] else f"{kind};{band}"
    if found := re.fullmatch(r"([ugrizy])_fwhm", name):
        return _NAMES["fwhm"]
    if name.endswith("Err") and (of := ucd_of(name.removesuffix("Err"))):
        return "stat.error;" + of.removesuffix(";meta.main")
    return next((ucd for pattern, ucd in _RULES if re.fullmatch(pattern, name)), "")


class DatasetError(TypeError):
    """Raised when a dataset does not match its declared schema."""


@dataclass(frozen=True)
class TableOf:
    """Catalogue. Field metadata hold ``unit`` and ``doc``; a field that is not nullable has no nulls.

    Attributes
    ----------
    name, schema
        Name and columns.
    product
        Whether it is published even if a later stage reads it.
    synthetic
        Whether its rows are simulated. Only a stage that makes another synthetic dataset may read it.
    ids
        Column of the ids of observed rows, if there is one. They are never negative; ids of synthetic rows are.
    """

    name: str
    schema: pa.Schema
    product: bool = False
    synthetic: bool = False
    ids: str = ""

    def check(self, value: Any) -> None:
        """Raise `DatasetError` unless ``value`` is a table of exactly this schema."""
        if not isinstance(value, pa.Table):
            raise DatasetError(f"dataset {self.name!r} must be a pyarrow Table, got {type(value).__name__}")
        if not value.schema.equals(self.schema):
            ours = {f"{field.name}: {field.type}" for field in self.schema}
            theirs = {f"{field.name}: {field.type}" for field in value.schema}
            raise DatasetError(
                f"dataset {self.name!r}: missing {sorted(ours - theirs)}, unexpected {sorted(theirs - ours)}"
            )
        for field in self.schema:
            if not field.nullable and (nulls := value[field.name].null_count):
                raise DatasetError(f"dataset {self.name!r}: {field.name} must not be null, got {nulls} nulls")
        if self.ids and (least := pc.min(value[self.ids]).as_py() or 0) < 0:
            raise DatasetError(f"dataset {self.name!r}: {self.ids} {least} is that of a synthetic row, not of the sky")

    def only(self, names: Collection[str]) -> "TableOf":
        """Return the dataset with some of its columns, always including its ids.

        Raises
        ------
        DatasetError
            There is no such column.
        """
        if unknown := sorted(set(names) - set(self.schema.names)):
            raise DatasetError(f"dataset {self.name!r} has no columns {unknown}, only {sorted(self.schema.names)}")
        return replace(
            self, schema=pa.schema([one for one in self.schema if one.name in names or one.name == self.ids])
        )

    def empty(self) -> pa.Table:
        """Return a table of this schema without rows."""
        return self.schema.empty_table()


@dataclass(frozen=True)
class ArrayOf:
    """Pixels or cutouts: ``dims`` names the axes, ``unit`` the values."""

    name: str
    dtype: str
    dims: tuple[str, ...]
    unit: str

    def check(self, value: Any) -> None:
        """Raise `DatasetError` unless ``value`` is an array of this dtype and rank."""
        if not isinstance(value, np.ndarray) or value.dtype != self.dtype or value.ndim != len(self.dims):
            got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise DatasetError(f"dataset {self.name!r} must be {self.dtype} {self.dims}, got {got}")


@dataclass(frozen=True)
class FileOf:
    """Content of a file, other than an exposure, named in the settings; stages that need it are skipped without it.

    Attributes
    ----------
    name, setting
        Name, and the setting with the path of the file, as ``section.field``; that setting is null for no file.
    service
        Setting with the URL of a service that is used if there is no file; empty: no service.
    """

    name: str
    setting: str
    service: str = ""

    def named(self, settings: Any) -> str | None:
        """Return the file, or the URL of the service, named in the settings."""
        for place in filter(None, (self.setting, self.service)):
            section, _, field = place.partition(".")
            named: str | None = getattr(getattr(settings, section), field)
            if named is not None:
                return named
        return None

    def check(self, value: Any) -> None:
        """Raise `DatasetError` if the file is missing."""
        if value is None:
            raise DatasetError(f"dataset {self.name!r} is missing. To fix, set {self.setting}.")


Dataset = TableOf | ArrayOf | FileOf


def column(name: str, kind: pa.DataType, unit: str, doc: str, *, nullable: bool = False, ucd: str = "") -> pa.Field:
    """Return a field of a catalogue with its unit (astropy's spelling, "" if none), meaning and UCD (see `ucd_of`)."""
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "doc": doc, "ucd": ucd or ucd_of(name)})


def quantity(name: str, unit: str, doc: str, *, nullable: bool = True) -> pa.Field:
    """Return a nullable float32 `column`."""
    return column(name, pa.float32(), unit, doc, nullable=nullable)
