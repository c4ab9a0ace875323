"""Features of light curves, by the package that the extra `features` brings, against their formulas."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.results.light_curve import LIGHT_CURVE, light_curve_features
from schemas.errors import Misconfigured

TIMES, FLUXES = [61000.0, 61001.0, 61003.5, 61004.0, 61009.0], [300.0, 420.0, 150.0, 500.0, 220.0]


def rows(**columns):
    count = len(columns["band"])
    filled = {
        field.name: pa.array(columns[field.name]).cast(field.type) if field.name in columns
        else pa.nulls(count, field.type)
        for field in LIGHT_CURVE
    }  # fmt: skip
    return pa.table(filled)


def test_features_are_those_of_their_formulas_band_by_band():
    pytest.importorskip("light_curve", reason="the extra `features` is not installed")
    errors = [10.0, 12.0, 8.0, 20.0, 9.0]
    found = light_curve_features(
        rows(
            band=["g", "r"] * 5 + ["r", "r"],
            midpointMjdTai=[*np.repeat(TIMES, 2).tolist(), 61010.0, 61011.0],
            flux=[*np.repeat(FLUXES, 2).tolist(), None, 5.0],
            fluxErr=[*np.repeat(errors, 2).tolist(), 1.0, None],
        )
    )
    assert found["g"] == found["r"]  # what has no flux, or no error, does not count
    flux, error = np.array(FLUXES), np.array(errors)
    mean = np.average(flux, weights=error**-2)
    formulas = {
        "amplitude": np.ptp(flux) / 2,
        "mean": flux.mean(),
        "median": np.median(flux),
        "standard_deviation": flux.std(ddof=1),
        "weighted_mean": mean,
        "chi2": (((flux - mean) / error) ** 2).sum() / 4,
        "linear_trend": np.polyfit(TIMES - np.mean(TIMES), flux, 1)[0],
        "maximum_slope": np.abs(np.diff(flux) / np.diff(TIMES)).max(),
        "beyond_1_std": (np.abs(flux - flux.mean()) > flux.std(ddof=1)).mean(),
        "median_absolute_deviation": np.median(np.abs(flux - np.median(flux))),
    }
    for name, value in formulas.items():
        assert found["g"][name] == pytest.approx(value, rel=1e-6), name


def test_too_few_detections_have_no_such_feature():
    pytest.importorskip("light_curve", reason="the extra `features` is not installed")
    (found,) = light_curve_features(rows(band=["g"], midpointMjdTai=[61000.0], flux=[5.0], fluxErr=[1.0])).values()
    assert (found["mean"], np.isnan(found["skew"]), np.isnan(found["linear_trend"])) == (5.0, True, True)


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "light_curve", None)
    with pytest.raises(Misconfigured, match=r"pip install 'nightstride\[features\]'"):
        light_curve_features(rows(band=["g"], midpointMjdTai=[61000.0], flux=[5.0], fluxErr=[1.0]))


def test_what_a_detection_lacks_is_kept_as_missing(tmp_path):
    table = rows(band=["g"]).set_column(1, LIGHT_CURVE.field(1), pa.array(["20260101"]))
    lacks = {name for name in LIGHT_CURVE.names if table[name].null_count}
    assert lacks == set(LIGHT_CURVE.names) - {"band", LIGHT_CURVE.field(1).name}
    pq.write_table(table.cast(LIGHT_CURVE), tmp_path / "curve.parquet")
    assert pq.read_table(tmp_path / "curve.parquet").equals(table)
