import re
from dataclasses import replace
from urllib.parse import parse_qs, urlparse

import pyarrow as pa
import pytest

from flows.results.motion import read_motion
from flows.results.page import cards
from flows.results.page.cards import (
    LIST_HEADINGS,
    DrawnList,
    card,
    direction_words,
    line,
    list_pages,
    rate_words,
)
from flows.results.page.found import Entry, found_in
from flows.results.page.night import read_night
from flows.results.page.page import write_report
from flows.results.page.words import NOTHING, links
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from schemas.dia_source import DIA_SOURCE, DetectionFlag
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from tests.support.browser import barriers, chromium, heard
from tests.support.vetting import BAND, KNOWN, build


@pytest.fixture
def told(kit, tmp_path):
    """Return the facts of a detection with some of its values changed, by name."""

    def describe(**changes):
        info = kit.info()
        (row,) = kit.rows(info, 1, 7)
        row |= {"flags": 0, "x": 10.04, "y": 300.26, "trailLengthPx": 6.0, "trailLength": 6.2, "trailAnglePx": 120.4}
        row |= {"snr": 12.34, "dec": -20.02}
        kit.publish(tmp_path, info, [row], 1)
        night = read_night(tmp_path, kit.NIGHT, None)
        (found,) = found_in(night.sources, night.known, None).table.to_pylist()
        return card(Entry(1, found["kind"], "single trail", None, (found | changes,)), night.exposures, ())

    return describe


def facts(made):
    return {fact.name: fact.value for fact in made.facts}


def test_values_have_units_and_errors_and_the_file_is_named(told):
    made = told(
        trailLengthPxErr=0.3, trailLengthErr=0.31, trailAnglePxErr=2.2, trailAngleErr=2.2, raErr=2e-5, decErr=3e-5
    )
    assert facts(made) == {
        "Seen": "07:12:49 UTC, r", "mag r": "19.40 ± 0.06", "S/N": "12.3", "Length": "6.0 ± 0.3 px, 6.2 ± 0.3″",
        "Angle": "120.4 ± 2.2°, PA 33.0 ± 2.2°", "Position": "± 0.072″ in RA, ± 0.11″ in Dec", "x, y": "10.0, 300.3 px",
        "File": "101_3.fits.fz", "Id": str(101 << 21 | 3 << 12),
    }  # fmt: skip
    assert made.place == ("150.01000 -20.02000", "10 00 02.40 -20 01 12.0")
    assert (made.title, made.anchor, made.lines) == ("Single trail", f"d{101 << 21 | 3 << 12}", ())


def test_what_has_no_length_has_no_angle(told):
    for changes in (
        {"trailLengthPx": 0.0},
        {"trailLengthPx": 1.8},
        {"trailLengthPxErr": 2.5},
        {"trailAnglePxErr": 80.0},
    ):
        assert "Angle" not in facts(told(**changes)), changes
    assert facts(told(trailLengthPx=0.0))["Length"] == "none"
    assert facts(told(trailLengthPxErr=2.5))["Length"] == "none: 6.0 ± 2.5 px"
    assert facts(told(trailLengthPx=float("nan")))["Length"] == "–"
    assert facts(told(trailAngle=None, trailLength=None, trailAnglePx=120.6))["Angle"] == "121°"


def test_a_time_that_nothing_told_is_not_shown(told, kit, tmp_path):
    made = told(flags=int(DetectionFlag.NO_TIME))
    assert facts(made)["Seen"] == "at a time not known, r"
    assert "no time" in made.flags
    assert [name for name, _ in made.links] == ["SIMBAD", "Aladin"]  # what moves was elsewhere then
    row = {**kit.rows(kit.info(), 1, 7)[0], "exposure": 0}
    night = read_night(tmp_path, kit.NIGHT, None)
    times = [line(row | {"flags": flag}, night.exposures)[0] for flag in (0, int(DetectionFlag.NO_TIME))]
    assert (len(times[0]), times[1]) == (8, "–")


def test_what_is_not_known_is_not_made_up(told):
    made = told(ra=None, dec=None, magAB=None, magABErr=None)
    assert (facts(made)["Position"], facts(made)["mag r"]) == ("not known: no WCS", "–")
    assert (made.place, made.links) == ((), ())
    assert facts(told(magABErr=None))["mag r"] == "19.40"


def test_what_is_assumed_is_marked_where_it_counts(told):
    made = told(flags=int(DetectionFlag.ASSUMED_PSF | DetectionFlag.ASSUMED_TIME | DetectionFlag.BLEED))
    assumed = {fact.name: fact.assumed for fact in made.facts if fact.assumed}
    assert assumed == {"Seen": "time", "mag r": "PSF", "Length": "PSF"}
    assert made.flags == ("bleed column",)
    assert not any(fact.assumed for fact in told().facts)


def test_links_ask_for_the_place_at_the_time():
    found = dict(links(71.23604, -30.16959, 60697.140602))
    asked = {name: parse_qs(urlparse(address).query) for name, address in found.items()}
    assert list(found) == ["MPC", "SkyBoT", "SIMBAD", "Aladin"]
    assert all(address.startswith("https://") for address in found.values())
    assert asked["MPC"]["ra"] == ["04 44 56.65"]
    assert asked["MPC"]["decl"] == ["-30 10 10.5"]
    assert (asked["MPC"]["year"], asked["MPC"]["month"], asked["MPC"]["day"]) == (["2025"], ["01"], ["22.140"])
    assert asked["SkyBoT"]["-ep"] == ["2025-01-22T03:21:51"]
    assert (asked["SkyBoT"]["-ra"], asked["SkyBoT"]["-dec"]) == (["71.236040"], ["-30.169590"])
    assert asked["SIMBAD"]["Coord"] == asked["Aladin"]["target"] == ["71.236040 -30.169590"]
    assert dict(links(1.0, 2.0, 60697.0, "(99942) Apophis"))["MPC"].endswith("object_id=99942")
    assert dict(links(1.0, 2.0, 60697.0, "2004 MN4"))["MPC"].endswith("object_id=2004%20MN4")
    assert "<" not in dict(links(1.0, 2.0, 60697.0, "<x>"))["MPC"]
    assert list(dict(links(1.0, 2.0, None, "2004 MN4"))) == ["MPC", "SIMBAD", "Aladin"]
    end = urlparse(dict(links(1.0, 2.0, 60707.0 + 20 / 86400))["MPC"])  # 2025-01-31 23:59:43 UTC
    assert (parse_qs(end.query)["month"], parse_qs(end.query)["day"]) == (["01"], ["31.999"])


@pytest.fixture(scope="module")
def vetted(kit, tmp_path_factory):
    """A night with science images and templates, a mover, a known object and a star at rest."""
    out = build(tmp_path_factory.mktemp("vetted") / "out")
    night = read_night(out, kit.NIGHT, None)
    return out, night, found_in(night.sources, night.known, read_motion(out, kit.NIGHT))


@pytest.mark.parametrize(
    ("errors", "rate", "towards"),
    [
        ({"rateErr": 0.02, "positionAngleErr": 0.34}, "3.300 ± 0.020 °/day, 8.2″/min", "PA 12.0 ± 0.3°"),
        ({"rateErr": 5e-5, "positionAngleErr": 1e-4}, "3.30000 ± 0.00005 °/day, 8.2500″/min", "PA 12.000 ± 0.010°"),
        ({"rateErr": None, "positionAngleErr": None}, "3.30 °/day, 8.2″/min", "PA 12.0°"),
        ({}, "3.30 °/day, 8.2″/min", "PA 12.0°"),
    ],
    ids=["usual", "long arc", "not known", "of an earlier version"],
)
def test_a_motion_is_told_with_the_errors_that_it_has(errors, rate, towards):
    row = {"rate": 3.3, "positionAngle": 12.0} | errors
    assert rate_words(row) == rate
    assert direction_words(row) == towards


def opened(out, night):
    return lambda place: TileStore.open(tile_path(out, night.exposures[place].record.key))


def test_a_mover_has_its_motion_its_detections_and_their_pictures(kit, vetted):
    out, night, found = vetted
    parts = DrawnList(found, night.exposures, opened(out, night), kit.limits).parts()
    assert [part.anchor for part in parts][:2] == ["unknown", "known"]
    assert parts[-1].anchor in {"rest", "satellites"}
    (mover,) = parts[0].cards
    told = facts(mover)
    assert (told["Rate"], told["Towards"]) == ("3.300 ± 0.010 °/day, 8.25″/min", "PA 270.0 ± 0.3°")
    assert told[f"mag r, {BAND}"] == "19.50"
    assert told["Seen"].startswith("3 detections, ")
    assert len(mover.lines) == 3
    assert [re.sub(r" .*", "", one.name) for one in mover.cutouts] == ["difference"] * 3 + ["science", "template"]
    assert len({one.name for one in mover.cutouts[:3]}) == 3  # each with its time
    assert parts[1].cards[0].title == KNOWN
    assert [one.name for one in parts[1].cards[0].cutouts] == ["difference", "science", "template"]
    rest = next(part for part in parts if part.anchor == "rest")
    assert (rest.folded, rest.cards, len(rest.lines)) == (True, (), 3)
    assert all(part.more == part.address == "" for part in parts)


def test_pictures_go_to_the_first_of_the_list_and_end_with_the_room(kit, vetted):
    out, night, found = vetted
    few = DrawnList(found, night.exposures, opened(out, night), replace(kit.limits, pictures=30_000)).parts()
    cards = [one for part in few for one in part.cards]
    assert cards[0].cutouts
    assert not cards[-1].cutouts
    assert sum(len(cutout.picture.uri) for one in cards for cutout in one.cutouts) < 60_000
    gone = DrawnList(found, night.exposures, lambda place: None, kit.limits).parts()
    assert not any(one.cutouts for part in gone for one in part.cards)


def test_what_is_not_on_the_page_is_on_the_lists(kit, vetted, monkeypatch):
    _, night, found = vetted
    monkeypatch.setattr("flows.results.page.cards.LINES", 10)
    small = DrawnList(found, night.exposures, lambda place: None, replace(kit.limits, cards=2, folded=2))
    parts = {part.anchor: part for part in small.parts()}
    assert parts["unknown"].more == ""
    assert parts["rest"].more == "The first 2 of 3 are here."
    pages = list(list_pages(found, night.exposures, small.shown))
    assert [page.number for page in pages] == [1, 2, 3, 4] == list(range(1, small.pages + 1))
    lines = [one for page in pages for _, _, held in page.parts for one in held]
    assert [anchor for anchor, _, _ in lines] == [f"d{one}" for one in found.table["diaSourceId"].to_pylist()]
    assert all(len(cells) == len(LIST_HEADINGS) for _, _, cells in lines)
    addresses = [address for _, address, _ in lines if address]
    assert addresses[:3] == [f"../index.html#{parts['unknown'].cards[0].anchor}"] * 3
    for anchor, part in parts.items():
        page, _, hash_ = part.address.partition("#")
        number = int(re.fullmatch(r"pages/(\d{4})\.html", page).group(1))
        assert hash_ == anchor
        assert anchor in {one for one, _, _ in pages[number - 1].parts}


def test_a_line_names_time_magnitude_and_place(vetted):
    _, night, found = vetted
    cells = line(found.table.slice(0, 1).to_pylist()[0], night.exposures)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", cells[0])
    assert re.fullmatch(r"\d+\.\d{5} [+-]\d+\.\d{5}", cells[5])
    assert cells[-2].endswith(".fits") or cells[-2].endswith("script>.fits")


@pytest.mark.slow
@pytest.mark.services
def test_fifty_thousand_detections_make_a_page_below_5_mb_that_leads_to_all_of_them(kit, tmp_path):
    """25 exposures of 2,001; a quarter of what is there lies at the same places, and is not a mover either.

    The last page, of 25 lines, is like the others, and searched for barriers in a moment.
    """
    ids = flood(kit, tmp_path, exposures=25, each=2001)
    page = write_report(tmp_path, kit.NIGHT)
    assert page.stat().st_size < 5e6
    lists = sorted((page.parent / "pages").iterdir())
    assert [one.name for one in lists] == [f"{number:04d}.html" for number in range(1, 102)]
    listed = [one for path in lists for one in re.findall(r'<tr id="d(\d+)">', path.read_text())]
    assert sorted(map(int, listed)) == sorted(ids)
    assert all(path.stat().st_size < 1e6 for path in lists)
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        complaints = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.goto(page.as_uri())
        tab.get_by_role("link", name="All detections, on 101 pages").click()
        assert (complaints, tab.url) == ([], (page.parent / "pages" / "0001.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.get_by_role("link", name="Next").first.click()
        tab.get_by_role("link", name="Night page").first.click()
        assert tab.url == page.as_uri()
        for scheme, width in (("light", 390), ("dark", 390), ("light", 1280), ("dark", 1280)):
            with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844}) as context:
                other = context.new_page()
                complaints = heard(other)
                other.goto((page.parent / "pages" / "0002.html").as_uri())
                assert other.evaluate("document.documentElement.scrollWidth") <= width
                other.goto(lists[-1].as_uri())
                assert (barriers(other), complaints) == ([], [])


def flood(kit, out, exposures, each):
    """Publish so many exposures of so many detections, the first of them with pixels; return all ids."""
    store, ids = CatalogStore(out), []
    base = kit.table(kit.rows(kit.info(), each, 1))
    kit.publish(out, kit.info(visit=101), kit.rows(kit.info(), 9, 1), 1)
    for visit in range(101, 101 + exposures):
        first = visit << 21 | 3 << 12
        here = pa.array(range(first, first + each), pa.int64())
        table = base.set_column(0, DIA_SOURCE.schema.field(0), here)
        table = table.set_column(1, DIA_SOURCE.schema.field(1), pa.array([visit] * each, pa.int64()))
        key = ExposureKey(night=kit.NIGHT, visit=visit, detector=3)
        path = store.publish(DIA_SOURCE, key, table, "e" * 64)
        Ledger(out).put(ExposureRecord(
            **key.model_dump(), source_uri=f"file:///{visit}.fits", source_sha256="0" * 64, digest="e" * 64,
            datasets={"dia_source": store.record(path)}, detections=each, software="0", finished_at="2026-11-04",
        ))  # fmt: skip
        ids += here.to_pylist()
    return ids


def test_lists_that_are_not_needed_any_more_are_removed(kit, tmp_path):
    kit.publish(tmp_path, kit.info(), kit.rows(kit.info(), 30, 1), 1)
    page = write_report(tmp_path, kit.NIGHT, limits=replace(kit.limits, cards=4))
    folder = page.parent / "pages"
    (folder / "0002.html").write_text("of a larger night")
    write_report(tmp_path, kit.NIGHT, limits=replace(kit.limits, cards=4))
    assert [one.name for one in folder.iterdir()] == ["0001.html"]
    assert "The first 4 of" in page.read_text()
    write_report(tmp_path, kit.NIGHT)
    assert not folder.exists()
    assert "pages/" not in page.read_text()


@pytest.mark.parametrize(
    ("mag", "spread", "words"),
    [
        (None, None, NOTHING),
        (None, 0.1, NOTHING),
        (19.5, None, "19.50"),
        (19.5, 0.01, "19.50, spread 0.01"),
        (19.5, 0.0099, "19.50, spread 0.010"),
    ],
)
def test_the_magnitude_of_a_mover_has_its_spread_where_that_is_known(mag, spread, words):
    assert cards._mean({"magAB": mag, "magABStd": spread}) == words
