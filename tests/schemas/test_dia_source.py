from astropy import units as u

from flows.adapters.catalog_store import unit_of
from schemas.dia_source import DIA_SOURCE, DetectionFlag

RUBIN = {
    "diaSourceId", "visit", "detector", "midpointMjdTai", "ra", "dec", "x", "y", "raErr", "decErr", "ra_dec_Cov",
    "xErr", "yErr", "x_y_Cov", "psfFlux", "psfFluxErr", "psfChi2", "apFlux", "apFluxErr", "snr", "trailFlux",
    "trailFluxErr",
    "trailRa", "trailDec", "trailLength", "trailLengthErr", "trailAngle", "trailAngleErr", "trailChi2", "trailNdata",
    "reliability", "reliabilityVersion", "band", "bboxSize",
}  # fmt: skip
"""Columns of Rubin's DiaSource (alert schema 11.1) that a streak catalogue fills."""


def test_rubins_names_are_there():
    assert set(DIA_SOURCE.schema.names) >= RUBIN


def test_units_are_astropys():
    for field in DIA_SOURCE.schema:
        assert isinstance(unit_of(field.metadata[b"unit"].decode()), u.UnitBase | u.FunctionUnitBase)
    assert DIA_SOURCE.schema.field("trailFlux").metadata[b"unit"] == b"nJy"


def test_flags_are_distinct_bits_and_explained():
    values = [flag.value for flag in DetectionFlag]
    assert all(value & (value - 1) == 0 for value in values)
    doc = DIA_SOURCE.schema.field("flags").metadata[b"doc"].decode()
    assert all(f"{flag.value} {flag.name}" in doc for flag in DetectionFlag)


def test_what_a_missing_wcs_or_zero_point_leaves_open_may_be_null():
    for name in ("ra", "dec", "trailLength", "trailAngle", "psfFlux", "trailFlux", "magAB"):
        assert DIA_SOURCE.schema.field(name).nullable
    for name in ("x", "y", "snr", "trailLengthPx", "reliability", "flags"):
        assert not DIA_SOURCE.schema.field(name).nullable
