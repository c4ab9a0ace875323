import numpy as np
import pyarrow as pa
import pytest

from flows.results.page import objects as module
from flows.results.page.objects import galaxies_of, objects_of
from flows.results.page.page import write_report
from flows.storage.array_store import ArrayStore
from flows.storage.catalog_store import CatalogStore
from schemas.class_table import class_columns, class_table
from schemas.errors import BadInput
from schemas.galaxy_pictures import ANOMALY, GALAXY, GALAXY_PICTURE, MORPHOLOGY, PICTURE_SIDE
from schemas.objects import OBJECT
from schemas.patch import PatchKey
from schemas.picture_classes import MORPHOLOGIES
from tests.support.page import object_table, put_objects, spectral_table, star_galaxy_table

NIGHT = "20261103"
GRIZ = {"g": 19.0, "r": 18.5, "i": 18.3, "z": 18.2}


def magnitudes(n, bands="griz"):
    rng = np.random.default_rng(1)
    return {band: GRIZ[band] + rng.normal(0, 0.3, n) for band in bands}


def test_no_objects_no_part(tmp_path):
    assert objects_of(tmp_path, NIGHT) is None


def test_counts_verdicts_and_draws_two_colours(tmp_path):
    put_objects(
        tmp_path,
        NIGHT,
        object_table(magnitudes(20)),
        star_galaxy_table([0.9] * 12 + [0.2] * 5 + [np.nan] * 3),
        spectral_table(["star"] * 10 + ["quasar"] * 2 + ["galaxy"] * 4 + ["unknown"] * 4),
    )
    found = objects_of(tmp_path, NIGHT)
    assert found.lead == "20 objects on the science images in g, r, i, z."
    assert {figure.name: figure.value for figure in found.figures} == {"Objects": "20", "In two bands or more": "20"}
    counts = {one.name: {label: number for label, _, number, _ in one.parts} for one in found.verdicts}
    assert counts == {
        "Star or galaxy": {"star": "12", "galaxy": "5", "unknown": "3"},
        "Superclass": {"star": "10", "galaxy": "4", "quasar": "2", "unknown": "4"},
    }
    assert [share for _, _, _, share in found.verdicts[0].parts] == ["60 %", "25 %", "15 %"]
    assert ">r - i, mag</text>" in found.picture
    assert found.picture.count("h0") == 20
    assert [name for _, name in found.key] == ["star", "galaxy", "unknown"]
    assert found.caption == "20 objects with errors up to 0.3 mag in each colour, of 20."


def test_says_why_objects_are_unknown_most_first(tmp_path):
    labels = ["star", "star", "unknown", "unknown", "unknown", "galaxy"]
    reasons = ["no_colour", None, "outlier", "colour_range", "colour_range", None]
    put_objects(tmp_path, NIGHT, object_table(magnitudes(6)), spectral=spectral_table(labels, reasons))
    (verdicts,) = objects_of(tmp_path, NIGHT).verdicts
    assert verdicts.note == "By the cutouts, colours and the counts of the sky. Unknown: colour range 2, outlier 1."
    put_objects(tmp_path, NIGHT, object_table(magnitudes(2)), spectral=spectral_table(["star"] * 2))
    assert "Unknown" not in objects_of(tmp_path, NIGHT).verdicts[0].note


def test_two_bands_make_a_colour_and_a_magnitude_the_brightest_on_top(tmp_path):
    put_objects(tmp_path, NIGHT, object_table(magnitudes(15, "gr")))
    found = objects_of(tmp_path, NIGHT)
    assert found.verdicts == ()
    assert ">r, mag</text>" in found.picture
    assert ">g - r, mag</text>" in found.picture
    assert found.key == (("part-0", "object"),)


def test_colours_with_a_gap_between_them_make_a_colour_and_a_magnitude(tmp_path):
    put_objects(tmp_path, NIGHT, object_table({band: np.full(12, 20.0) for band in "ugiz"}))
    found = objects_of(tmp_path, NIGHT)
    assert ">u - g, mag</text>" in found.picture
    assert ">g, mag</text>" in found.picture


@pytest.mark.parametrize(("n", "error"), [(5, 0.02), (30, 0.4)])
def test_without_colours_there_are_counts_and_the_reason(tmp_path, n, error):
    put_objects(tmp_path, NIGHT, object_table(magnitudes(n, "gri"), error))
    found = objects_of(tmp_path, NIGHT)
    assert found.picture == ""
    assert found.caption.startswith("Fewer than 10 objects have a colour")


def test_of_one_band_nothing_is_said_of_colours(tmp_path):
    put_objects(tmp_path, NIGHT, object_table(magnitudes(30, "r")), spectral=spectral_table(["star"] * 30))
    found = objects_of(tmp_path, NIGHT)
    assert (found.picture, found.caption) == ("", "")
    assert [one.note for one in found.verdicts] == ["By the cutouts and the counts of the sky."]


def test_a_crowd_is_drawn_in_part_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST", 50)
    put_objects(tmp_path, NIGHT, object_table(magnitudes(80)))
    found = objects_of(tmp_path, NIGHT)
    assert found.picture.count("h0") == 50
    assert found.caption.endswith("of 80; 30 fainter ones are left out.")


def test_verdicts_on_other_objects_are_not_shown(tmp_path):
    put_objects(tmp_path, NIGHT, object_table(magnitudes(20)), star_galaxy_table([0.9] * 7))
    assert objects_of(tmp_path, NIGHT).verdicts == ()


def test_an_empty_table(tmp_path):
    put_objects(tmp_path, NIGHT, OBJECT.empty(), star_galaxy_table([]))
    found = objects_of(tmp_path, NIGHT)
    assert found.lead == "0 objects on the science images."
    assert found.picture == ""


def test_the_page_has_the_part_or_says_what_is_wrong(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    put_objects(tmp_path, kit.NIGHT, object_table(magnitudes(20)), star_galaxy_table([0.9] * 20))
    text = write_report(tmp_path, kit.NIGHT).read_text()
    assert '<section id="objects"' in text
    assert '<a href="#objects">Objects</a>' in text
    assert "docs/method/star_galaxy.md" in text
    path = CatalogStore(tmp_path).night_path(OBJECT, kit.NIGHT)
    path.write_bytes(b"no catalogue")
    with pytest.raises(BadInput):
        objects_of(tmp_path, kit.NIGHT)
    text = write_report(tmp_path, kit.NIGHT).read_text()
    assert '<section id="objects"' not in text
    assert "object.parquet" in text


def pictured(monkeypatch, out, table, *more):
    """Axes, points by style, and title of the picture."""
    seen = []
    monkeypatch.setattr(module, "scatter_chart", lambda *given: seen.append(given) or "<svg/>")
    put_objects(out, NIGHT, table, *more)
    found = objects_of(out, NIGHT)
    ((across, upward, series, title),) = seen
    return across, upward, {one.style: (one.x.tolist(), one.y.tolist()) for one in series}, title, found


def test_axes_hold_all_but_a_hundredth_at_either_end_and_a_margin(tmp_path, monkeypatch):
    g_r, r = np.linspace(0.0, 2.0, 101), np.linspace(17.0, 21.0, 101)
    across, upward, dots, title, _ = pictured(monkeypatch, tmp_path, object_table({"g": r + g_r, "r": r}))
    assert (across.low, across.high) == pytest.approx((0.02 - 0.098, 1.98 + 0.098), abs=1e-5)
    assert (upward.low, upward.high) == pytest.approx((20.96 + 0.196, 17.04 - 0.196), abs=1e-5)  # bright is up
    assert title == "r against g - r of 101 objects"
    assert list(dots) == ["part-0"]
    assert dots["part-0"][1] == pytest.approx(sorted(r), abs=1e-5)


def test_a_margin_is_at_least_a_twentieth_of_a_magnitude(tmp_path, monkeypatch):
    same = {"g": np.full(10, 20.0), "r": np.full(10, 19.0), "i": np.full(10, 18.5)}
    across, upward, *_ = pictured(monkeypatch, tmp_path, object_table(same))
    assert (across.low, across.high, upward.low, upward.high) == pytest.approx((0.95, 1.05, 0.45, 0.55), abs=1e-5)


def test_kinds_have_their_colours_and_the_unknown_lie_below(tmp_path, monkeypatch):
    labels = ["star"] * 3 + ["quasar"] * 2 + ["galaxy"] * 4 + ["unknown"]
    *_, dots, _, found = pictured(monkeypatch, tmp_path, object_table(magnitudes(10)), None, spectral_table(labels))
    assert {style: len(x) for style, (x, _) in dots.items()} == {"part-other": 1, "part-0": 3, "part-2": 4, "part-3": 2}
    assert next(iter(dots)) == "part-other"
    assert found.key == (("part-0", "star"), ("part-2", "galaxy"), ("part-3", "quasar"), ("part-other", "unknown"))


def test_colours_as_certain_as_asked_for_are_drawn(tmp_path, monkeypatch):
    for place, (error, drawn) in enumerate(((0.2142857, True), (0.2143, False))):
        out = tmp_path / str(place)
        put_objects(out, NIGHT, object_table(magnitudes(10), error))
        assert bool(objects_of(out, NIGHT).picture) is drawn


def test_ten_objects_make_a_picture_and_nine_do_not(tmp_path):
    for n, drawn in ((9, False), (10, True)):
        put_objects(tmp_path / str(n), NIGHT, object_table(magnitudes(n)))
        assert bool(objects_of(tmp_path / str(n), NIGHT).picture) is drawn


def with_errors(table, colour, errors):
    place = table.schema.get_field_index(f"{colour}Err")
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(errors, field.type))


def test_ten_objects_must_have_both_colours(tmp_path, monkeypatch):
    """Ten have g - r and ten r - i, nine have both: a colour and a magnitude are drawn."""
    table = object_table(magnitudes(11, "gri"))
    table = with_errors(table, "gMinusR", [9.0] + [0.1] * 10)
    table = with_errors(table, "rMinusI", [0.1, 9.0] + [0.1] * 9)
    across, upward, dots, *_ = pictured(monkeypatch, tmp_path, table)
    assert (across.name, upward.name) == ("g - r, mag", "r, mag")
    assert len(dots["part-0"][0]) == 10


def test_the_bluest_pair_of_colours_is_drawn(tmp_path, monkeypatch):
    across, upward, *_ = pictured(
        monkeypatch, tmp_path, object_table(magnitudes(12, "griz") | {"u": np.full(12, 21.0)})
    )
    assert (across.name, upward.name) == ("u - g, mag", "g - r, mag")


def test_objects_of_one_band_are_not_several(tmp_path):
    put_objects(tmp_path, NIGHT, object_table(magnitudes(3, "r")))
    assert [figure.name for figure in objects_of(tmp_path, NIGHT).figures] == ["Objects"]


def test_bars_of_verdicts_are_as_long_as_their_shares(tmp_path):
    put_objects(tmp_path, NIGHT, object_table(magnitudes(20)), star_galaxy_table([0.9] * 12 + [0.2] * 8))
    (verdicts,) = objects_of(tmp_path, NIGHT).verdicts
    assert 'aria-label="Star or galaxy: star 12, galaxy 8, unknown 0"' in verdicts.bar
    assert [share for *_, share in verdicts.parts] == ["60 %", "40 %", "0 %"]
    put_objects(tmp_path, NIGHT, OBJECT.empty(), star_galaxy_table([]))
    assert [share for *_, share in objects_of(tmp_path, NIGHT).verdicts[0].parts] == ["0 %"] * 3


KEYS = [PatchKey(night=NIGHT, order=5, pixel=pixel) for pixel in (10, 11)]
LABELS = np.array([0, 1, 1, 1, 3, -1])  # the last one has no picture


def galaxy_rows(dataset, **given):
    """Rows of a dataset with these columns, 1 in all others."""
    n = len(next(iter(given.values())))
    columns = [
        pa.array(given.get(field.name, ["a 1" if field.type == pa.string() else 1] * n)) for field in dataset.schema
    ]
    return pa.table([one.cast(field.type) for one, field in zip(columns, dataset.schema, strict=True)], dataset.schema)


def put_galaxies(out, probability=(0.9, 0.8, 0.95, 0.7, 0.6, np.nan)):
    """Publish six galaxies, three in each of two patches."""
    share = np.asarray(probability)
    rows = np.where(np.arange(4) == LABELS[:, None], share[:, None], (1 - share[:, None]) / 3)
    verdicts = class_table(MORPHOLOGY, class_columns(MORPHOLOGIES, 100 + np.arange(6), rows, np.zeros(6), "net 1"))
    pictures = np.random.default_rng(1).integers(1, 255, (6, PICTURE_SIDE, PICTURE_SIDE, 3)).astype(np.uint8)
    pictures[5] = 0
    tables, arrays = CatalogStore(out), ArrayStore(out)
    places = galaxy_rows(GALAXY, objectId=100 + np.arange(6), ra=10.0 + np.arange(6), dec=[-1.0] * 6)
    scores = galaxy_rows(ANOMALY, objectId=100 + np.arange(5), anomalyScore=[5.0, 20.0, 8.0, 9.0, 30.0])
    for key, part in zip(KEYS, (slice(0, 3), slice(3, 6)), strict=True):
        tables.publish(MORPHOLOGY, key, verdicts.slice(part.start, 3), "d" * 64)
        tables.publish(GALAXY, key, places.slice(part.start, 3), "d" * 64)
        tables.publish(ANOMALY, key, scores.slice(part.start, 3), "d" * 64)
        arrays.publish(GALAXY_PICTURE, key, pictures[part], "d" * 64, {"objectId": 100 + np.arange(6)[part]})
    return pictures


def test_no_galaxies_no_part(tmp_path):
    assert galaxies_of(tmp_path, NIGHT) is None


def test_each_class_has_its_surest_and_the_oddest_come_last(tmp_path, monkeypatch):
    put_galaxies(tmp_path)
    monkeypatch.setattr(module, "EACH", 2)
    monkeypatch.setattr(module, "ODDEST", 3)
    found = galaxies_of(tmp_path, NIGHT)
    assert found.lead == "Galaxies: 6; large and bright enough to tell their shape: 5."
    assert {group.name: group.number for group in found.groups} == {
        "elliptical": "1", "spiral": "3", "merger": "1", "oddest": ""
    }  # fmt: skip
    shown = {group.name: [one.figure for one in group.galaxies] for group in found.groups}
    assert shown["spiral"] == ["p 0.95", "p 0.80"]
    assert shown["oddest"] == ["score 30.0", "score 20.0", "score 9.0"]
    assert found.groups[1].galaxies[0].place == "12.00000 -1.00000"


def test_pictures_are_those_of_the_galaxies_whatever_patch_they_lie_in(tmp_path):
    pictures = put_galaxies(tmp_path)
    rows = ArrayStore(tmp_path).read_rows(GALAXY_PICTURE, NIGHT, "objectId", {101, 104, 999})
    assert sorted(rows) == [101, 104]
    assert np.array_equal(rows[104], pictures[4])
    page = write_report(tmp_path, NIGHT).read_text()
    assert page.count("Galaxy at ") == 10
    assert 'href="#galaxies"' in page


def test_a_damaged_array_is_told_and_the_rest_of_the_page_is_made(tmp_path):
    put_galaxies(tmp_path)
    path = ArrayStore(tmp_path).path(GALAXY_PICTURE, KEYS[0])
    (path / "galaxy_picture/zarr.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        galaxies_of(tmp_path, NIGHT)
    assert "cannot be read" in write_report(tmp_path, NIGHT).read_text()
