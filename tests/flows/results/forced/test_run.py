from io import StringIO
from shutil import rmtree

import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from rich.console import Console

from flows.results.forced import run as module
from flows.results.forced.run import (
    MOST,
    FirstRows,
    forced_exposures,
    measure_night,
    show_forced,
    summarise_targets,
    tell_forced,
    trails_at,
)
from flows.results.verify import verify_output
from flows.storage.catalog_store import CatalogStore, read_metadata
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.forced import FORCED_SOURCE, ForcedSummary, Note
from schemas.night_range import EVERY_NIGHT, NightRange
from tests.support.forced import plain_info, plain_planes, record_of, store, targets
from tests.support.vetting import filled

TABLES = {FORCED_SOURCE.name: FORCED_SOURCE}
TRAIL = (100.0, 60.0, 12.0, 0.0, 6000.0)


@pytest.fixture
def out(tmp_path):
    """Give an output folder of two nights: two visits of a field and one without WCS; one more visit."""
    store(tmp_path, plain_info(visit=1), plain_planes(TRAIL))
    store(tmp_path, plain_info(visit=2), plain_planes())
    store(tmp_path, plain_info(visit=3, wcs_header=None), plain_planes())
    store(tmp_path, plain_info(visit=4, night="20260102"), plain_planes())
    return tmp_path


def run(out, known, nights=EVERY_NIGHT, sigma=3.0, left_out=()):
    tables = []
    summary = summarise_targets(
        known, left_out, measure_night(out, known, forced_exposures(out, nights), sigma), tables.append
    )
    return summary, tables


def files(out):
    return {path.name: path.read_bytes() for path in (out / "catalogs").rglob("*.parquet")}


def test_counts_add_up(out):
    error = BadInput("bad_target", "list: row 3", "is bad.", "correct it.")
    summary, tables = run(out, targets(a=(100, 60, 1200.0), b=(200, 200), far=(9999.0, 0.0)), left_out=(error,))
    assert (summary.targets, summary.exposures) == (3, 4)
    assert (summary.rows, summary.detections, summary.limits, summary.not_measured) == (6, 1, 5, 0)
    assert summary.rows == sum(len(table) for table in tables)
    assert summary.not_covered == ("far",)
    assert [note.code for note in summary.not_run] == ["no_wcs"]
    assert [note.code for note in summary.left_out] == ["bad_target"]
    assert summary.exit_code == 1
    assert list(summary.files) == [
        f"catalogs/forced_source/night={night}/{visit}-0.parquet"
        for visit, night in ((1, 20260101), (2, 20260101), (4, 20260102))
    ]


def test_one_night_is_enough(out):
    summary, _ = run(out, targets(a=(100, 60)), nights=NightRange.of("20260102"))
    assert (summary.exposures, summary.rows, len(summary.files)) == (1, 1, 1)
    with pytest.raises(Misconfigured, match="has no exposure that was searched in night 20260103"):
        forced_exposures(out, NightRange.of("20260103"))


def test_same_targets_give_the_same_bytes_and_others_another_digest(out):
    known = targets(a=(100, 60, 1200.0), b=(200, 200))
    run(out, known)
    first = files(out)
    run(out, known)
    assert files(out) == first
    path = out / "catalogs/forced_source/night=20260101/1-0.parquet"
    _, digest, rows = read_metadata(path)
    assert rows == 2
    run(out, known, sigma=5.0)
    assert read_metadata(path)[1] != digest
    run(out, targets(a=(100, 60)))
    assert read_metadata(path)[1] != digest


def test_what_is_published_is_in_the_ledger_and_verified(out):
    run(out, targets(a=(100, 60)))
    assert verify_output(out, TABLES).problems == ()
    record = next(Ledger(out).records("20260101"))
    assert record.datasets["forced_source"].rows == 1
    CatalogStore(out).path(FORCED_SOURCE, record.key).unlink()
    assert [problem.code for problem in verify_output(out, TABLES).problems] == ["unreadable_catalogue"]


def test_file_of_an_earlier_list_goes_when_the_exposure_covers_no_target(out):
    run(out, targets(a=(100, 60)))
    summary, tables = run(out, targets(far=(9999.0, 0.0)))
    assert summary.not_covered == ("far",)
    assert files(out) == {}
    assert sum(map(len, tables)) == 0
    assert verify_output(out, TABLES).problems == ()


def test_without_a_zero_point_there_is_no_limit(tmp_path):
    store(tmp_path, plain_info(visit=1), plain_planes())
    store(tmp_path, plain_info(visit=2, zero_point=None), plain_planes())
    summary, tables = run(tmp_path, targets(a=(100, 60)))
    limits = [row["magABLimit"] for table in tables for row in table.to_pylist()]
    assert (summary.rows, summary.limits, summary.no_limit) == (2, 1, 1)
    assert [one is None for one in limits] == [False, True]
    console = Console(file=StringIO(), width=200)
    show_forced(summary, FORCED_SOURCE.empty(), console)
    told = console.file.getvalue()
    assert "1 target, 2 exposures: 0 detections, 1 upper limit, 1 not seen and without zero point, 0 not" in told


def test_other_catalogues_of_the_exposure_stay_in_its_record(out):
    key = record_of(plain_info(visit=1)).key
    store_ = CatalogStore(out)
    other = store_.record(store_.publish(FORCED_SOURCE, key, FORCED_SOURCE.empty(), "d"))
    Ledger(out).put(record_of(plain_info(visit=1), datasets={"other": other}))
    run(out, targets(a=(100, 60)))
    assert set(Ledger(out).get(key).datasets) == {"other", "forced_source"}
    run(out, targets(far=(9999.0, 0.0)))
    assert set(Ledger(out).get(key).datasets) == {"other"}


def test_damaged_exposure_does_not_take_the_rest_down(out):
    (out / "tiles/20260101/1-0.zarr/difference/zarr.json").unlink()
    summary, _ = run(out, targets(a=(100, 60)))
    assert [note.code for note in summary.quarantined] == ["damaged_tiles"]
    assert "1-0.zarr" in str(summary.quarantined[0])
    assert (summary.rows, summary.exit_code) == (2, 1)


def test_exposure_without_its_tiles_keeps_what_was_measured(out):
    run(out, targets(a=(100, 60)))
    before = files(out)
    rmtree(out / "tiles/20260101/1-0.zarr")
    summary, _ = run(out, targets(a=(100, 60)))
    assert [note.code for note in summary.quarantined] == ["no_tiles"]
    assert "run the exposure again with --tiles" in summary.quarantined[0].remedy
    assert files(out) == before


def test_exposures_that_are_quarantined_are_none(out):
    info = plain_info(visit=1)
    Ledger(out).put(record_of(info, status="quarantined", reason="flood"))
    assert [record.visit for record in forced_exposures(out)] == [2, 3, 4]


def test_folder_without_a_night_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="has no exposure that was searched"):
        forced_exposures(tmp_path)
    assert not list(tmp_path.iterdir())


def test_catalogue_is_read_like_any_other(out):
    run(out, targets(a=(100, 60, 1200.0)))
    schema = pq.read_schema(out / "catalogs/forced_source/night=20260101/1-0.parquet")
    assert schema.field("trailFluxUpper").metadata[b"unit"] == b"nJy"


@pytest.fixture
def measured(tmp_path):
    planes = plain_planes(TRAIL)
    planes["mask"][200:, :] = 1
    store(tmp_path, plain_info(), planes)
    known, tables = targets(**{"[a]": (100, 60, 1200.0), "b": (150, 100), "c": (60, 250)}), []
    return summarise_targets(
        known, (), measure_night(tmp_path, known, forced_exposures(tmp_path), 3.0), tables.append
    ), tables


def printed(function, *arguments):
    console = Console(file=StringIO(), width=100)
    function(*arguments, console)
    return console.file.getvalue()


def test_detections_have_a_magnitude_and_the_rest_a_limit(measured):
    summary, (rows,) = measured
    lines = {line.split()[0]: line.split() for line in printed(show_forced, summary, rows).splitlines() if line.split()}
    (first, _, third), row = rows.to_pylist(), lines["[a]"]
    flux = [f"{first['trailFlux']:,.0f}", "±", f"{first['trailFluxErr']:,.0f}"]
    assert row[1:7] == ["7-0", "r", *flux, f"{first['magAB']:.2f}"]
    assert row[-1] == f"{first['snr']:.1f}"
    assert lines["b"][6] == ">"
    assert lines["c"][3:] == ["MASKED", "NOT_MEASURED"]
    assert third["snr"] is None
    assert "3 targets, 1 exposure: 1 detection, 1 upper limit, 1 not measured; 0 targets on none of them." in printed(
        show_forced, summary, rows
    )


def test_first_rows_are_kept_and_the_rest_counted(measured):
    _, (rows,) = measured
    first = FirstRows()
    for _ in range(MOST):
        first(rows)
    assert len(first.table) == MOST
    assert first.table.slice(0, 3).equals(rows)
    text = printed(show_forced, ForcedSummary(targets=3, exposures=MOST, rows=3 * MOST), first.table)
    assert f"{2 * MOST} rows more" in text
    every = FirstRows(None)
    for _ in range(MOST):
        every(rows)
    assert len(every.table) == 3 * MOST


def test_without_rows_there_is_no_table():
    text = printed(show_forced, ForcedSummary(targets=1, exposures=1, not_covered=("a",)), FORCED_SOURCE.empty())
    assert text == "1 target, 1 exposure: 0 detections, 0 upper limits, 0 not measured; 1 target on none of them.\n"


def test_what_was_left_out_is_told_with_its_remedy():
    notes = tuple(
        Note(code="bad", where=f"list: row {k}", problem="is [b].", remedy="correct it.") for k in range(MOST + 2)
    )
    text = printed(tell_forced, ForcedSummary(targets=1, exposures=1, left_out=notes, quarantined=notes[:1]))
    lines = text.splitlines()
    assert lines[0] == "left out: list: row 0: is [b]. To fix, correct it."
    assert lines[MOST] == "left out: 2 more, see --json."
    assert lines[-1].startswith("not measured: list: row 0")


@pytest.mark.parametrize("place", [(10.0, 20.0), (0.0, 20.0), (359.9999, -30.0), (10.0, 88.5), (10.0, -88.5)])
@pytest.mark.parametrize(
    ("north", "east", "trail", "crosses"),
    [
        (0.0, 0.0, (60.0, 1.0, 90.0), True),
        (0.0, 31.0, (60.0, 1.0, 90.0), True),  # an arcsecond beyond its end
        (0.0, -31.0, (60.0, None, 90.0), True),
        (0.0, 34.0, (60.0, 1.0, 90.0), False),
        (2.9, 20.0, (60.0, 1.0, 90.0), True),
        (3.1, 20.0, (60.0, 1.0, 90.0), False),
        (20.0, 0.0, (60.0, 1.0, 90.0), False),  # it lies along the other axis
        (20.0, 0.0, (60.0, 1.0, 0.0), True),
        (0.0, 0.0, (None, None, None), False),
        (0.0, 0.0, (0.0, None, 0.0), False),
        (0.0, 0.0, (3.0, 1.0, 0.0), False),  # three sigma, and not more
        (0.0, 0.0, (3.01, 1.0, None), True),
    ],
)  # fmt: skip
def test_trails_that_cross_a_place_are_told(tmp_path, place, north, east, trail, crosses):
    """The trail lies so many arcsec from the place, anywhere on the sky."""
    at = SkyCoord(*place, unit="deg").spherical_offsets_by(-east * u.arcsec, -north * u.arcsec)
    length, error, angle = trail
    row = {"diaSourceId": 77, "visit": 5, "detector": 1, "ra": at.ra.deg, "dec": at.dec.deg, "trailLength": length}
    rows = filled(DIA_SOURCE, [row | {"trailLengthErr": error, "trailAngle": angle}])
    CatalogStore(tmp_path).publish(DIA_SOURCE, ExposureKey(night="20260101", visit=5, detector=1), rows, "d")
    found = trails_at(tmp_path, EVERY_NIGHT, *place)
    assert [line.split(",")[0] for line in found] == ["77"] * crosses
    assert trails_at(tmp_path, NightRange.of("20260102"), *place) == []


@pytest.mark.parametrize("dec", [88.0, 88.5, 89.5, -89.5])
def test_trails_beside_a_pole_are_told(tmp_path, dec):
    row = {"diaSourceId": 77, "visit": 5, "detector": 1, "ra": 120.0, "dec": dec, "trailLength": 60.0}
    key = ExposureKey(night="20260101", visit=5, detector=1)
    CatalogStore(tmp_path).publish(DIA_SOURCE, key, filled(DIA_SOURCE, [row]), "d")
    assert len(trails_at(tmp_path, EVERY_NIGHT, 120.0, dec)) == 1


@pytest.mark.parametrize(
    ("snr", "magnitude", "limit", "told"),
    [
        (-3.0, None, 21.0, "negative"), (-2.99, None, 21.0, "> 21.00"), (5.0, 20.0, 21.0, "20.00 ± 0.10"),
        (None, None, 21.0, "> 21.00"), (None, None, None, ""), (5.0, None, None, ""),
    ],
)  # fmt: skip
def test_what_is_darker_than_the_sky_is_said_to_be_negative(snr, magnitude, limit, told):
    row = {"snr": snr, "limitSigma": 3.0, "magAB": magnitude, "magABErr": 0.1, "magABLimit": limit}
    assert module._magnitude(row) == told
