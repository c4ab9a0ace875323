import shutil

import pytest

from flows.results.page.content import Limits, content
from flows.results.page.night import read_night


def made(kit, out, limits=None, summary=None):
    return content(out, read_night(out, kit.NIGHT, summary), limits or Limits(), None)


def test_a_large_night_is_shown_in_part_and_says_so(kit, tmp_path):
    kit.night(tmp_path, visits=5, each=6)
    page = made(kit, tmp_path, Limits(panels=2, cutouts_each=4, cutouts=5, rows=3))
    night = read_night(tmp_path, kit.NIGHT, None)
    best = sorted(night.exposures, key=lambda exposure: exposure.interest, reverse=True)[:2]
    assert page.panel_names == {exposure.record.key.name for exposure in best}
    assert [panel.name for panel in page.panels] == sorted(page.panel_names)
    assert sorted(len(panel.cutouts) for panel in page.panels) == [2, 3]
    assert page.pictured.startswith("2 of 5 exposures: those whose detections have the largest sum")
    assert len(page.rows) == 3
    assert page.rows_left_out == "The first 3 of 5 exposures, by visit and detector."
    assert sum(int(figure.value) for figure in page.figures if figure.name == "Detections") == 30


def test_a_small_night_is_shown_in_full(kit, tmp_path):
    kit.night(tmp_path, visits=2)
    page = made(kit, tmp_path)
    assert (page.rows_left_out, page.troubles_left_out, page.notes) == ("", "", ())
    assert page.pictured == "All 2 exposures, by visit and detector."
    assert page.title == "3 November 2026"
    assert page.made_at == "As of 2026-11-04 03:12:42 UTC"
    assert page.colophon == "Made by nightstride 0.1.0; reliability from basic_cnn 1 + reliability 1."


@pytest.mark.parametrize("gone", ["", "difference/c/0/0"])
def test_tiles_may_be_gone(kit, tmp_path, gone):
    kit.night(tmp_path, visits=2)
    place = tmp_path / "tiles" / kit.NIGHT / "101-3.zarr" / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    page = made(kit, tmp_path)
    assert [panel.name for panel in page.panels] == ["102-3"]
    assert page.pictured.startswith("1 of 2 exposures")
    assert len(page.rows) == 2


def test_what_was_not_run_and_warnings_are_told(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    summary = kit.summary(1, 0).model_copy(update={"not_run": {"vet": "no template."}, "warnings": ("Slow disk.",)})
    page = made(kit, tmp_path, summary=summary)
    assert page.notes == ("Stage vet was not run: no template.", "Slow disk.")
    assert page.elapsed == "3.1 s to start, 14 s in all by the clock"


def test_waiting_is_shown_where_the_run_made_all_of_the_night(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    seconds = {"detect": 4.0, "waiting": 1.0, "startup": 3.1, "search": 2.5}
    summary = kit.summary(1, 0, seconds)
    assert "waiting" not in {part.stage for part in made(kit, tmp_path, summary=summary).timing.stages}
    page = made(kit, tmp_path, summary=summary.model_copy(update={"nights": (kit.NIGHT,)}))
    assert [part.stage for part in page.timing.stages] == ["detect", "waiting"]
    assert page.elapsed == "3.1 s to start, 2.5 s to search"


def test_sections_are_those_that_are_there(kit, tmp_path):
    assert [anchor for anchor, _ in made(kit, tmp_path).sections] == ["summary", "exposures"]
    kit.quarantine(tmp_path)
    assert [anchor for anchor, _ in made(kit, tmp_path).sections] == ["summary", "exposures", "troubles"]
    kit.night(tmp_path, visits=1)
    assert [anchor for anchor, _ in made(kit, tmp_path).sections] == [
        "summary",
        "detections",
        "exposures",
        "timing",
        "table",
        "troubles",
    ]
