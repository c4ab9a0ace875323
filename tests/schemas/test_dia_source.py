import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u

from flows.storage.catalog_store import field_unit
from schemas.dataset import DatasetError
from schemas.dia_source import (
    CAUSES,
    DIA_SOURCE,
    FEATURES,
    HIT,
    RESIDUALS,
    STATIC,
    STREAK,
    UNKNOWN,
    SearchCounts,
    exposure_of,
)
from schemas.pixels import SearchGrid, Tiling

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
        assert isinstance(field_unit(field.metadata[b"unit"].decode()), u.UnitBase | u.FunctionUnitBase)
    assert DIA_SOURCE.schema.field("trailFlux").metadata[b"unit"] == b"nJy"


def test_what_a_missing_wcs_or_zero_point_leaves_open_may_be_null():
    for name in ("ra", "dec", "trailLength", "trailAngle", "psfFlux", "trailFlux", "magAB"):
        assert DIA_SOURCE.schema.field(name).nullable
    for name in ("x", "y", "snr", "trailLengthPx", "reliability", "flags"):
        assert not DIA_SOURCE.schema.field(name).nullable


def test_what_passes_on_to_detections_has_the_same_form_there():
    for name in ("logitSum", "logitPeak", "nHits", "x", "y"):
        assert STREAK.schema.field(name).type == DIA_SOURCE.schema.field(name).type
        assert STREAK.schema.field(name).metadata[b"unit"] == DIA_SOURCE.schema.field(name).metadata[b"unit"]


def test_nothing_about_a_candidate_may_be_missing():
    assert not any(field.nullable for field in STREAK.schema)


def test_rows_of_the_largest_camera_fit():
    rows, columns = Tiling((20_000, 20_000), 7, 26, 7).grid
    table = pa.table({"row": [rows], "column": [columns], "logit": np.float32([1.5])}, schema=HIT.schema)
    HIT.check(table)
    assert table["row"].to_pylist() == [rows]


def test_an_id_holds_visit_detector_and_rank():
    for visit, detector, rank in ((0, 0, 0), (7, 511, 4095), (2**42 - 1, 3, 1), (1, 256, 0), (99429086, 59, 2048)):
        assert exposure_of((visit * 512 + detector) * 4096 + rank) == (visit, detector)


def test_detections_are_published_and_known_by_their_ids():
    assert (DIA_SOURCE.product, DIA_SOURCE.ids) == (True, "diaSourceId")
    assert (STREAK.product, HIT.product) == (False, False)


def test_features_are_in_the_order_that_models_were_trained_with():
    assert len(FEATURES) == len(set(FEATURES)) == 14 + len(CAUSES) + len(RESIDUALS) + len(STATIC)
    assert FEATURES[13 : 13 + len(CAUSES)] == tuple(f"{name}Evidence" for name, _, _ in CAUSES)
    assert STATIC == ("log_static", "log_static_peak", "static_unknown", "log_left")
    assert UNKNOWN == (0, 0, 1, 0)


def test_counts_of_one_grid_add_up_and_of_two_do_not():
    total = SearchCounts(10, 3, SearchGrid()) + SearchCounts(5, 1, SearchGrid())
    assert total == SearchCounts(15, 4, SearchGrid())
    with pytest.raises(DatasetError, match="two grids"):
        _ = total + SearchCounts(5, 1, SearchGrid(stride=4))
