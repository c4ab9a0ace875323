"""Light curves of the night page: read off their own ticks, and chosen as numpy chooses."""

import shutil
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from flows.nights.association import associate
from flows.results.page.curves import LEAST, MOST, curves_of, draw_light_curve, scatter_of
from flows.results.page.page import write_report
from flows.results.page.words import measured
from flows.storage.association_store import opened_association
from flows.storage.association_tables import FILE
from flows.storage.catalog_store import CatalogStore
from kernels.sky.patches import pixels_at
from schemas.dia_object import ASSOCIATION, DIA_OBJECT
from schemas.patch import PatchKey
from schemas.settings import AssociationSettings
from schemas.stage import Context
from stages.gather_dia_objects import gather_dia_objects
from tests.support.alert_night import NIGHT, info_of, places, put
from tests.support.alert_night import rows_of as found_rows
from tests.support.association import put as put_links
from tests.support.svg import frame, scales

SETTINGS = AssociationSettings()
LATER = "20260105"
COUNT = 20

NAMES = {"u": "part-3", "g": "part-1", "r": "part-4", "i": "part-2", "z": "part-0", "y": "part-7", "?": "part-other"}


def rows_of(*values):
    names = ("diaSourceId", "band", "midpointMjdTai", "psfFlux", "psfFluxErr")
    return [dict(zip(names, row, strict=True)) for row in values]


def test_a_light_curve_shows_fluxes_with_their_errors():
    rows = rows_of(
        (1, "u", 61000.75, 900.0, 50.0), (2, "g", 61003.25, -200.0, 80.0), (3, "?", 61010.5, 2500.0, None),
        (4, "r", 61004.0, None, None), (5, "i", 61005.0, 1000.0, 100.0), (6, "z", 61006.0, 1100.0, 100.0),
        (7, "y", 61007.0, 1200.0, 100.0), (8, "r", 61008.0, 1300.0, 100.0),
    )  # fmt: skip
    svg = ElementTree.fromstring(draw_light_curve(rows, 5))
    assert svg.get("aria-label") == "Light curve of 7 detections"
    assert svg.get("role") == "img"
    across, upward = scales(svg)
    shown = [row for row in rows if row["psfFlux"] is not None]
    groups = list(svg.iter("g"))
    left, right, base = frame(svg)
    assert len(groups) == len(shown)
    for row, group in zip(shown, groups, strict=True):
        circle, line = group.find("circle"), group.find("line")
        x, error = float(circle.get("cx")), row["psfFluxErr"] or 0.0
        assert across(x) == pytest.approx(row["midpointMjdTai"] - 61000, abs=0.03)
        assert upward(float(circle.get("cy"))) == pytest.approx(row["psfFlux"], abs=10)
        ends = [upward(float(line.get(name))) for name in ("y1", "y2")]
        assert ends == pytest.approx([row["psfFlux"] - error, row["psfFlux"] + error], abs=15)
        assert line.get("x1") == line.get("x2") == circle.get("cx")
        assert left < x < right
        assert 0 < min(float(line.get("y2")), float(circle.get("cy"))) < base
        assert group.get("class").split() == ["seen", NAMES[row["band"]]] + ["current"] * (row["diaSourceId"] == 5)
        assert measured(row["psfFlux"], error, 2, " nJy") in group.find("title").text
    names = [one.text for one in svg.iter("text") if one.get("class") == "axis"]
    assert names == ["MJD (TAI) − 61000, d", "Flux, nJy"]
    assert upward(base) < -280  # room below the lowest end
    assert across(left) < 0.75 < 10.5 < across(right)


@pytest.mark.parametrize(("flux", "unit", "name"), [(9e3, 1, "nJy"), (-2.5e5, 1e3, "µJy"), (3e8, 1e6, "mJy")])
def test_large_fluxes_have_a_unit_that_leaves_room_for_their_digits(flux, unit, name):
    rows = rows_of((1, "r", 61000.0, flux, abs(flux) / 100), (2, "r", 61001.0, flux / 2, abs(flux) / 100))
    svg = ElementTree.fromstring(draw_light_curve(rows))
    _, upward = scales(svg)
    circles = [upward(float(one.get("cy"))) * unit for one in svg.iter("circle")]
    assert circles == pytest.approx([flux, flux / 2], rel=0.02)
    assert f"Flux, {name}" in [one.text for one in svg.iter("text")]
    assert all(one.text.endswith(f" {name}") for one in svg.iter("title") if " UTC: " in one.text)
    assert max(len(one.text) for one in svg.iter("text") if one.get("text-anchor") == "end") <= 6


def test_a_flux_alone_is_drawn_and_nothing_is_not():
    svg = ElementTree.fromstring(draw_light_curve(rows_of((1, "r", 61000.0, 5.0, 0.0)), 1))
    assert len(list(svg.iter("circle"))) == 1
    assert draw_light_curve(rows_of((1, "r", 61000.0, None, None)), 1) == draw_light_curve([], 1) == ""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two nights of four visits each; object n varies n times as much as its error."""
    folder, rng = tmp_path_factory.mktemp("curves") / "out", np.random.default_rng(4)
    x, y = places(COUNT, (280, 300))
    for n in range(8):
        info = info_of(n, planes=(), night=NIGHT if n < 4 else LATER)
        flux = 10_000 + 100.0 * np.arange(COUNT) * rng.normal(0, 1, COUNT)
        put(folder, info, found_rows(info, x, y, psfFlux=flux, psfFluxErr=np.full(COUNT, 100.0)))
    assert not associate(folder, SETTINGS, None).summary.failed
    with opened_association(folder, SETTINGS) as store:
        for night in (NIGHT, LATER):
            rows = gather_dia_objects({ASSOCIATION.name: store.history(night)}, Context())
            pixels = pixels_at(rows["ra"].to_numpy(), rows["dec"].to_numpy(), 5)
            for pixel in np.unique(pixels).tolist():
                key = PatchKey(night=night, order=5, pixel=pixel)
                CatalogStore(folder).publish(DIA_OBJECT, key, rows.filter(pa.array(pixels == pixel)), "d")
    return folder


def expected(out, night):
    """Objects by their scatter, computed by numpy from the store's detections up to a night."""
    with opened_association(out, SETTINGS) as store:
        rows = store.history(night).to_pylist()
    found = {}
    for one in rows:
        found.setdefault(one["diaObjectId"], []).append((one["psfFlux"], one["psfFluxErr"]))
    chi2 = {}
    for identity, values in found.items():
        flux, error = np.array(values).T
        mean = np.average(flux, weights=error**-2)
        chi2[identity] = np.sum(((flux - mean) / error) ** 2) / (len(flux) - 1)
    return sorted(chi2, key=chi2.get, reverse=True), chi2


@pytest.mark.parametrize(("night", "visits"), [(NIGHT, 4), (LATER, 8)])
def test_those_that_vary_most_are_shown_up_to_the_night(out, night, visits):
    found = curves_of(out, night, SETTINGS)
    order, chi2 = expected(out, night)
    assert [int(one.identity) for one in found.curves] == order[:MOST]
    assert f"{COUNT} objects at rest seen {LEAST} times or more" in found.lead
    for one in found.curves:
        facts = dict(one.facts)
        assert facts["Seen"] == f"{visits} detections on {visits // 4} night{'s' if visits > 4 else ''}"
        assert facts["Scatter"] == f"χ² {chi2[int(one.identity)]:.1f} per degree of freedom"
        assert len(list(ElementTree.fromstring(one.chart).iter("circle"))) == visits


def test_a_curve_is_of_its_object_where_a_later_search_gave_the_id_to_a_detection_of_another(tmp_path):
    """Two objects of one flux each; searched again, the first exposure lists them the other way round."""
    ra, flux = np.array([10.0, 10.1]), np.array([10_000.0, 30_000.0])
    with opened_association(tmp_path, SETTINGS) as store:
        for visit, turn in ((1, 1), (2, 1), (3, 1), (1, -1)):
            found = {"psfFlux": flux[::turn] + 500.0 * visit, "night": NIGHT, "digest": f"{turn}"}
            put_links(store, visit, ra[::turn], [0.0, 0.0], **found)
        rows = gather_dia_objects({ASSOCIATION.name: store.history(NIGHT)}, Context())
    CatalogStore(tmp_path).publish(DIA_OBJECT, PatchKey(night=NIGHT, order=0, pixel=0), rows, "d")
    means = dict(zip(map(str, rows["diaObjectId"].to_pylist()), rows["r_psfFluxMean"].to_pylist(), strict=True))
    assert len(means) == 2
    for one in curves_of(tmp_path, NIGHT, SETTINGS).curves:
        _, upward = scales(svg := ElementTree.fromstring(one.chart))
        drawn = [1e3 * upward(float(circle.get("cy"))) for circle in svg.iter("circle")]
        assert len(drawn) == LEAST
        assert np.mean(drawn) == pytest.approx(means[one.identity], rel=0.05)


def test_the_key_names_the_bands_that_are_drawn(tmp_path):
    with opened_association(tmp_path, SETTINGS) as store:
        for visit, (band, flux) in enumerate((("r", 1e3), ("r", 2e3), ("r", 3e3), ("g", np.nan), ("i", 2e3))):
            put_links(store, visit, [10.0], [0.0], psfFlux=flux, band=[band], night=NIGHT)
        rows = gather_dia_objects({ASSOCIATION.name: store.history(NIGHT)}, Context())
    CatalogStore(tmp_path).publish(DIA_OBJECT, PatchKey(night=NIGHT, order=0, pixel=0), rows, "d")
    found = curves_of(tmp_path, NIGHT, SETTINGS)
    assert [band for band, _ in found.bands] == ["r", "i"]
    assert dict(found.curves[0].facts)["Seen"] == "5 detections on 1 night"


def test_scatter_is_of_the_band_in_which_it_is_largest_and_needs_three():
    names = [f"{band}_psfFlux{end}" for band in "ugrizy" for end in ("Ndata", "Chi2")]
    rows = {name: pa.array([0, 0, 0] if name.endswith("Ndata") else [np.nan] * 3) for name in names}
    rows |= {"g_psfFluxNdata": pa.array([3, 2, 0]), "g_psfFluxChi2": pa.array([4.0, 90.0, np.nan])}
    rows |= {"r_psfFluxNdata": pa.array([5, 0, 3]), "r_psfFluxChi2": pa.array([4.0, np.nan, np.nan])}
    np.testing.assert_array_equal(scatter_of(pa.table(rows)), [2.0, np.nan, np.nan])


def test_the_page_has_them_and_tells_where_the_store_is_damaged(out, tmp_path):
    page = write_report(out, LATER).read_text()
    order, _ = expected(out, LATER)
    assert all(f'id="object-{one}"' in page for one in order[:MOST])
    assert '<a href="#curves">Light curves</a>' in page
    broken = shutil.copytree(out, tmp_path / "out")
    (broken / FILE).write_bytes(b"no database" * 1000)
    page = write_report(broken, LATER).read_text()
    assert 'id="curves"' not in page
    assert "cannot be read" in page
    (broken / FILE).unlink()
    assert curves_of(broken, LATER, SETTINGS) is None
    assert "cannot be read" not in write_report(broken, LATER).read_text()


def test_a_night_without_objects_has_none(out):
    assert curves_of(out, "20270101", SETTINGS) is None
