"""Light curves of published detections, and their features, by the package of the extra `features`, by formulas."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.results.light_curve import LIGHT_CURVE, find_detection, light_curve, light_curve_features
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.dia_object import DIA_OBJECT_SOURCE
from schemas.errors import Misconfigured
from schemas.ledger import ExposureRecord
from schemas.patch import PatchKey
from tests.support.ades import publish_rows
from tests.support.tracklets import MJD, STEP, mover, numbered, place

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


NIGHT = "20261103"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An output folder, and ids: of a star, of a mover whose first is an object of its own, of one whose first two are
    one, and of what is seen once; as is the first detection that an exposure may have, an object.
    """
    out = tmp_path_factory.mktemp("out")
    star = [place(150.01, 20.02, visit, psfFlux=100.0 + visit, psfFluxErr=3.0, trailFlux=7.0) for visit in range(3)]
    moving = mover(150.0, 20.0, 0.5, 40.0, range(3), psfFlux=7.0, trailFlux=300.0, trailFluxErr=4.0)
    slow = mover(150.5, 20.5, 0.05, 90.0, range(3), psfFlux=8.0)
    once = [place(151.0, 21.0, 1, psfFlux=50.0, psfFluxErr=5.0)]
    rows, (star, moving, slow, alone) = numbered([star, moving, slow, once])
    publish_rows(out, [*rows, place(152.0, 21.0, 0, psfFlux=9.0, diaSourceId=0)], night=NIGHT)
    columns = {
        "diaSourceId": np.array([*star, moving[0], *slow[:2], 0]),
        "diaObjectId": np.array([star[0]] * 3 + [moving[0]] + [slow[0]] * 2 + [0]),
        "separation": np.array([0.0, 0.1, 0.2, 0.0, 0.0, 0.0, 0.0], np.float32),
    }
    table = pa.table(columns, schema=DIA_OBJECT_SOURCE.schema)
    CatalogStore(out).publish(DIA_OBJECT_SOURCE, PatchKey(night=NIGHT, order=0, pixel=0), table, "d")
    unsearched = {"visit": 200, "detector": 5, "source_uri": "s", "source_sha256": "s", "digest": "d", "datasets": {}}
    ended = {"software": "0", "finished_at": "2026-11-04T04:00:00+00:00"}
    Ledger(out).put(ExposureRecord(night=NIGHT, **unsearched, **ended))
    return out, star, moving, slow, alone[0]


def told(found):
    return found.kind, found.identity, found.rows["diaSourceId"].to_pylist(), found.rows["flux"].to_pylist()


def test_a_light_curve_is_of_what_its_id_or_that_of_a_detection_names(published):
    out, star, moving, slow, alone = published
    for one in star:
        found = light_curve(out, [NIGHT], one)
        assert told(found) == ("object", star[0], star, [100.0, 101.0, 102.0])
        assert found.rows["fluxErr"].to_pylist() == [3.0] * 3
        assert found.rows["midpointMjdTai"].to_pylist() == [MJD + STEP * visit for visit in range(3)]
        assert found.rows["offset"].to_pylist() == pytest.approx([0.0, 0.1, 0.2])
    for one in moving:  # also by the first, which is an object that was seen once
        assert told(light_curve(out, [NIGHT], one)) == ("tracklet", moving[0], moving, [300.0] * 3)
    assert told(light_curve(out, [NIGHT], slow[0])) == ("object", slow[0], slow[:2], [8.0] * 2)  # seen twice as such
    assert told(light_curve(out, [NIGHT], slow[2]))[:3] == ("tracklet", slow[0], slow)
    assert told(light_curve(out, [NIGHT], 0)) == ("object", 0, [0], [9.0])
    found = light_curve(out, [NIGHT], alone)
    assert (*told(found), found.rows["offset"].to_pylist()) == ("detection", alone, [alone], [50.0], [0.0])


def test_a_light_curve_is_of_what_is_asked_for_alone(published):
    out, star, moving, _, alone = published
    assert told(light_curve(out, [NIGHT], star[1], "detection")) == ("detection", star[1], [star[1]], [101.0])
    assert told(light_curve(out, [NIGHT], moving[0], "object")) == ("object", moving[0], [moving[0]], [7.0])
    assert told(light_curve(out, [NIGHT], moving[0], "tracklet"))[:2] == ("tracklet", moving[0])
    for identity, of in ((star[1], "tracklet"), (moving[1], "object"), (alone, "object"), (alone, "tracklet")):
        with pytest.raises(Misconfigured, match=f"knows no {of} {identity}"):
            light_curve(out, [NIGHT], identity, of)


def test_ids_that_nothing_has_are_told(published):
    out, star, *_ = published
    assert [find_detection(out, ["20261102", NIGHT], one)[1]["psfFlux"] for one in (star[1], 0)] == [101.0, 9.0]
    unknown = (star[0] + 4000, 200 << 21 | 5 << 12, -1, 2**63 - 1, 2**63, 10**30)  # of a night, an exposure unsearched
    for identity in unknown:
        with pytest.raises(Misconfigured, match=f"holds no detection {identity} "):
            light_curve(out, [NIGHT], identity)
        with pytest.raises(Misconfigured, match=f"knows no object {identity} "):
            light_curve(out, [NIGHT], identity, "object")
