import numpy as np
import pytest
from astropy import units as u

from flows.results.forced.exposure import _cells, _neighbours, measure_forced
from flows.results.forced.target_file import read_target_file
from flows.results.forced.targets import ForcedTargets, forced_targets
from flows.storage.zarr_tiles import TileStore, write_exposure
from kernels.measure.forced import reach
from kernels.measure.photometry import njy_per_unit
from kernels.trails.geometry import Segment
from schemas.errors import BadInput, NoWork
from schemas.exposure import Variation
from schemas.forced import FORCED_SOURCE, ForcedFlag
from schemas.pixels import MaskPlane
from schemas.settings import TileSettings
from tests.support.forced import MJD, flux_of, plain_info, plain_planes, targets

pytest_plugins = ("tests.support.forced_fixture",)

MOVES = (100.0, 60.0, 12.0, 0.0, 6000.0)  # x, y, length, angle, flux
STANDS = (200.0, 200.0, 0.0, 0.0, -4000.0)


@pytest.fixture
def stored(tmp_path):
    def store(info=None, planes=None):
        info = info or plain_info()
        planes = planes or plain_planes(MOVES, STANDS)
        write_exposure(tmp_path / "one.zarr", info, planes, TileSettings(tile=112, chunk=28), "d")
        return TileStore.open(tmp_path / "one.zarr")

    return store


def rows(table):
    return {row["targetName"]: row for row in table.to_pylist()}


def test_trails_and_points_are_measured_where_they_are(stored):
    found = rows(measure_forced(stored(), targets(a=(100, 60, 1200.0), b=(200, 200), c=(60, 200)), 3.0))
    scale = njy_per_unit(26.0)
    moves, stands, empty = (found[name] for name in "abc")
    assert (moves["x"], moves["y"], moves["trailLength"]) == pytest.approx((100, 60, 12.0), abs=1e-3)
    assert (moves["trailLengthPx"], (moves["trailAnglePx"] + 1) % 180) == pytest.approx((12.0, 1.0), abs=1e-2)
    assert moves["trailAngle"] == pytest.approx(90.0, abs=1e-3)
    assert moves["trailFlux"] == pytest.approx(6000 * scale, abs=4 * moves["trailFluxErr"])
    assert moves["psfFlux"] < 0.5 * moves["trailFlux"]
    assert moves["magAB"] == pytest.approx((moves["trailFlux"] * u.nJy).to_value(u.ABmag), abs=1e-3)
    assert stands["trailFlux"] == pytest.approx(-4000 * scale, abs=4 * stands["trailFluxErr"])
    assert stands["psfFlux"] == stands["trailFlux"]
    assert (stands["magAB"], stands["trailFluxUpper"]) == (None, pytest.approx(3 * stands["trailFluxErr"], rel=1e-6))
    assert abs(empty["snr"]) < 4
    assert empty["magABLimit"] == pytest.approx((empty["trailFluxUpper"] * u.nJy).to_value(u.ABmag), abs=1e-3)
    assert {row["flags"] for row in found.values()} == {0}
    assert {row["trailNdata"] for row in found.values()} > {stands["trailNdata"]}


def test_table_has_the_declared_form_with_and_without_rows(stored):
    store = stored()
    FORCED_SOURCE.check(measure_forced(store, targets(a=(100, 60)), 3.0))
    for none in (targets(), targets(far=(5000.0, 5000.0)), targets(beside=(-1.0, 50.0))):
        table = measure_forced(store, none, 3.0)
        FORCED_SOURCE.check(table)
        assert len(table) == 0


def test_sigma_sets_limits_and_detections(stored):
    store, one = stored(), targets(a=(100, 60, 1200.0))
    for sigma in (1.0, 5.0, 1000.0):
        (row,) = measure_forced(store, one, sigma).to_pylist()
        assert row["limitSigma"] == sigma
        assert (row["magAB"] is None) == (row["snr"] < sigma)
        assert row["trailFluxUpper"] == pytest.approx(row["trailFlux"] + sigma * row["trailFluxErr"], rel=1e-6)


def test_no_target_changes_another_far_from_it(stored):
    store, many = stored(), targets(a=(100, 60, 1200.0), b=(200, 200), c=(60, 200), d=(290, 5, 900.0))
    together = measure_forced(store, many, 3.0)
    for k, name in enumerate("abcd"):
        alone = ForcedTargets(
            *(getattr(many, part)[k : k + 1] for part in ("name", "ra", "dec", "epoch", "rate", "angle"))
        )
        assert measure_forced(store, alone, 3.0).to_pylist() == [rows(together)[name]]


def test_targets_side_by_side_are_fitted_together(stored):
    store = stored(planes=plain_planes((100.0, 60.0, 0.0, 0.0, 20000.0)))
    found = rows(measure_forced(store, targets(bright=(100, 60), faint=(104, 60)), 3.0))
    alone = rows(measure_forced(store, targets(faint=(104, 60)), 3.0))
    assert abs(found["faint"]["snr"]) < 4 < abs(alone["faint"]["snr"])
    assert found["faint"]["flags"] == found["bright"]["flags"] == 0
    double = rows(measure_forced(store, targets(one=(100, 60), two=(100.3, 60)), 3.0))
    assert all(row["flags"] == ForcedFlag.BLENDED for row in double.values())


def test_only_pixels_around_the_targets_are_read(stored, monkeypatch):
    store, read = stored(), []
    monkeypatch.setattr(
        TileStore, "read", lambda self, plane, *box, of=TileStore.read: read.append(box) or of(self, plane, *box)
    )
    measure_forced(store, targets(a=(100, 60), far=(9999.0, 0.0)), 3.0)
    assert len(read) == 2
    assert max(y1 - y0 for y0, _, y1, _ in read) < 80
    assert max(x1 - x0 for _, x0, _, x1 in read) < 80
    read.clear()
    measure_forced(store, targets(far=(9999.0, 0.0)), 3.0)
    assert not read


def test_border_and_mask(stored):
    planes = plain_planes()
    planes["mask"][95:106, 50:61] = MaskPlane.SAT
    planes["mask"][200, :] = MaskPlane.BAD
    found = rows(
        measure_forced(
            stored(planes=planes),
            targets(edge=(0.0, 140.0), lost=(55, 100), line=(200, 200), out=(1.0, 20.0, 6000.0)),
            3.0,
        )
    )
    assert found["edge"]["flags"] == ForcedFlag.EDGE
    assert found["edge"]["snr"] is not None
    assert 0.3 < found["edge"]["maskedFraction"] < 0.5
    assert found["lost"]["flags"] == ForcedFlag.NOT_MEASURED | ForcedFlag.SATURATED
    assert found["lost"]["trailFlux"] is found["lost"]["snr"] is found["lost"]["magABLimit"] is None
    assert found["line"]["flags"] == ForcedFlag.MASKED
    assert found["out"]["flags"] == ForcedFlag.EDGE
    assert found["out"]["maskedFraction"] == pytest.approx(0.47, abs=0.03)


def test_trail_longer_than_the_image_is_not_measured_and_costs_no_memory(stored):
    (row,) = measure_forced(stored(), targets(fast=(150, 140, 1e12)), 3.0).to_pylist()
    assert row["flags"] & ForcedFlag.NOT_MEASURED
    assert row["maskedFraction"] > 0.9


def test_without_zero_point_magnitudes_are_null_and_snr_is_not(stored):
    (row,) = measure_forced(stored(plain_info(zero_point=None)), targets(a=(100, 60, 1200.0)), 3.0).to_pylist()
    assert row["flags"] == ForcedFlag.NO_ZERO_POINT
    assert row["trailFlux"] is row["magABLimit"] is row["trailFluxUpper"] is None
    assert row["snr"] > 10
    (calibrated,) = measure_forced(
        stored(plain_info(zero_point=None, pixel_unit="nJy")), targets(a=(100, 60, 1200.0)), 3.0
    ).to_pylist()
    assert calibrated["trailFlux"] == pytest.approx(6000, abs=4 * calibrated["trailFluxErr"])


def test_without_wcs_there_is_nothing_to_do(stored):
    with pytest.raises(NoWork, match="exposure 7-0 of night 20260101: has no WCS"):
        measure_forced(stored(plain_info(wcs_header=None)), targets(a=(100, 60)), 3.0)
    with pytest.raises(BadInput, match="no celestial WCS"):
        measure_forced(stored(plain_info(wcs_header="CTYPE1  = 'FREQ'")), targets(a=(100, 60)), 3.0)


def test_simulated_asteroids_are_measured_whether_seen_or_not(forced_night, target_file):
    out, infos, truth = forced_night
    known, bad = forced_targets(read_target_file(target_file))
    true = {(row["objectName"], row["visit"]): row for row in truth if row["kind"] == "streak"}
    pulls, exceeded, faint = [], 0, 0
    for info in infos.values():
        table = measure_forced(TileStore.open(out / "tiles" / info.night / f"{info.name}.zarr"), known, 3.0)
        for row in table.to_pylist():
            one = true.get((row["targetName"], row["visit"]))
            if one is None or row["flags"]:
                continue
            assert np.hypot(row["x"] - one["x"], row["y"] - one["y"]) < 0.05
            assert row["trailLengthPx"] == pytest.approx(one["length_px"], abs=0.02)
            if one["snr"] < 8:
                flux = flux_of(one)
                pulls.append((row["trailFlux"] - flux) / row["trailFluxErr"])
                exceeded += flux > row["trailFluxUpper"]
                faint += one["snr"] < 3
    assert bad == ()
    assert faint > 30
    assert len(pulls) > 50
    assert abs(np.mean(pulls)) < 3 / np.sqrt(len(pulls))
    assert 0.8 < np.std(pulls) < 1.2
    assert exceeded <= 1


def test_what_is_read_reaches_as_far_as_the_measurement_does(stored, monkeypatch):
    store, read = stored(), []
    monkeypatch.setattr(
        TileStore, "read", lambda self, plane, *box, of=TileStore.read: read.append(box) or of(self, plane, *box)
    )
    far = reach(0.0, 2.2)
    for place, (top, left, bottom, right) in (
        ({"a": (100.5, 60.5)}, (60 - far, 100 - far, 62 + far, 102 + far)),
        ({"a": (100.5, 60.5, 1200.0)}, (60 - far, 94 - far, 62 + far, 108 + far)),  # 12 px towards the west
        ({"a": (1.5, 2.5)}, (0, 0, 4 + far, 3 + far)),
        ({"a": (298.5, 277.5)}, (277 - far, 298 - far, 280, 300)),
        ({"a": (100.5, 60.5), "b": (160.5, 130.5)}, (60 - far, 100 - far, 132 + far, 162 + far)),
    ):
        read.clear()
        measure_forced(store, targets(**place), 3.0)
        assert read == [(top, left, bottom, right)] * 2


def test_targets_are_read_together_cell_by_cell():
    places = [(1007.9, 5.0), (1008.0, 5.0), (3.0, 1007.9), (3.0, 1008.0), (2015.9, 2015.9), (0.0, 0.0)]
    segments = [Segment(x, y, 0.0, 0.0) for x, y in places]
    assert list(_cells(segments, range(6))) == [[0, 2, 5], [1], [3], [4]]
    assert list(_cells(segments, [1, 2, 5])) == [[2, 5], [1]]


def test_neighbours_are_those_whose_grown_boxes_touch():
    places = [(50.0, 50.0), (60.0, 50.0), (50.0, 60.0), (60.01, 39.99), (70.0, 50.0)]
    segments = [Segment(x, y, 0.0, 0.0) for x, y in places]
    near = _neighbours(segments, range(5), 10)
    for i, (x, y) in enumerate(places):
        assert near[i] == [
            j for j, (u, v) in enumerate(places) if j != i and abs(u - x) <= 10 + 1e-9 and abs(v - y) <= 10 + 1e-9
        ]
    assert _neighbours(segments, [3, 1], 10) == {3: near[3], 1: near[1]}
    assert _neighbours([], [], 10) == {}


def test_chosen_targets_have_the_rows_that_they_have_among_all(stored):
    known = targets(a=(100, 60, 1200.0), b=(106, 63), c=(200, 200), far=(9999.0, 0.0))
    whole, chosen = measure_forced(stored(), known, 3.0), np.array([False, True, True, True])
    assert measure_forced(stored(), known, 3.0, chosen).equals(whole.slice(1))
    alone = measure_forced(stored(), targets(b=(106, 63)), 3.0)
    assert alone["trailFlux"] != whole["trailFlux"].slice(1, 1)
    assert len(measure_forced(stored(), known, 3.0, np.zeros(4, bool))) == 0


def test_columns_of_the_exposure_are_those_of_every_row(stored):
    (row, still) = measure_forced(stored(), targets(a=(100, 60, 1200.0), b=(200, 200)), 3.5).to_pylist()
    for one in (row, still):
        assert (one["visit"], one["detector"], one["band"], one["midpointMjdTai"]) == (7, 0, "r", MJD)
        assert (one["limitSigma"], one["maskedFraction"]) == (3.5, 0.0)
        assert one["snr"] == pytest.approx(one["trailFlux"] / one["trailFluxErr"], rel=1e-5)
        assert one["psfFluxErr"] > 0
    assert (still["trailAngle"], still["trailLength"]) == (0.0, 0.0)
    assert row["magABErr"] == pytest.approx(2.5 / np.log(10) / row["snr"], rel=1e-3)


def test_a_detection_is_one_from_the_limit_on(stored):
    store, one = stored(), targets(a=(100, 60, 1200.0))
    (row,) = measure_forced(store, one, 3.0).to_pylist()
    for sigma, seen in ((row["snr"] * (1 - 1e-6), True), (row["snr"] * (1 + 1e-6), False)):
        (again,) = measure_forced(store, one, sigma).to_pylist()
        assert (again["magAB"] is not None) is seen


def test_pixels_in_nanojansky_need_no_zero_point_and_others_are_scaled_by_theirs(stored):
    given = targets(a=(100, 60, 1200.0))
    flux = {}
    for unit, zero_point in (("nJy", None), ("nJy", 31.4), ("adu", 31.4), ("adu", 28.9)):
        (row,) = measure_forced(stored(plain_info(pixel_unit=unit, zero_point=zero_point)), given, 3.0).to_pylist()
        assert row["flags"] == 0
        flux[unit, zero_point] = row["trailFlux"]
    assert flux["nJy", None] == flux["nJy", 31.4] == flux["adu", 31.4]
    assert flux["adu", 28.9] == pytest.approx(10 * flux["nJy", None], rel=1e-6)


def test_where_little_is_around_the_noise_is_that_of_the_place(stored):
    even = plain_info()
    uneven = plain_info(noise_variation=Variation(values=(((1.0, 3.0),),), y=(0.0, 1.0), x=(50.0, 150.0)))
    planes = plain_planes(STANDS)
    planes["mask"][...] = MaskPlane.BAD
    planes["mask"][193:208, 193:208] = 0  # what the fit needs, and no more
    one, other = (measure_forced(stored(info, planes), targets(b=(200, 200)), 3.0) for info in (even, uneven))
    assert other["psfFluxErr"][0].as_py() == pytest.approx(3 * one["psfFluxErr"][0].as_py(), rel=0.05)
