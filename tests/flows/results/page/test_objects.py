import numpy as np
import pytest

from flows.results.page import objects as module
from flows.results.page.objects import objects_of
from flows.results.page.page import write_report
from flows.storage.catalog_store import CatalogStore
from schemas.errors import BadInput
from schemas.objects import OBJECT
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


def test_two_bands_make_a_colour_and_a_magnitude_the_brightest_on_top(tmp_path):
    put_objects(tmp_path, NIGHT, object_table(magnitudes(15, "gr")))
    found = objects_of(tmp_path, NIGHT)
    assert found.verdicts == ()
    assert ">r, mag</text>" in found.picture
    assert ">g - r, mag</text>" in found.picture
    assert found.key == (("part-0", "object"),)


@pytest.mark.parametrize(("bands", "n", "error"), [("r", 30, 0.02), ("gri", 5, 0.02), ("gri", 30, 0.4)])
def test_without_colours_there_are_counts_and_the_reason(tmp_path, bands, n, error):
    put_objects(tmp_path, NIGHT, object_table(magnitudes(n, bands), error))
    found = objects_of(tmp_path, NIGHT)
    assert found.picture == ""
    assert found.caption.startswith("Fewer than 10 objects have a colour")


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
