import numpy as np
import pyarrow as pa
import pytest

from flows.results.page import galaxies as module
from flows.results.page.galaxies import galaxies_of
from flows.results.page.page import write_report
from flows.storage.array_store import ArrayStore
from flows.storage.catalog_store import CatalogStore
from schemas.class_table import class_columns, class_table
from schemas.errors import BadInput
from schemas.galaxy_pictures import ANOMALY, GALAXY, GALAXY_PICTURE, MORPHOLOGY, PICTURE_SIDE
from schemas.patch import PatchKey
from schemas.picture_classes import MORPHOLOGIES

NIGHT = "20261103"
KEYS = [PatchKey(night=NIGHT, order=5, pixel=pixel) for pixel in (10, 11)]
LABELS = np.array([0, 1, 1, 1, 3, -1])  # the last one has no picture


def filled(dataset, **given):
    """Rows of a dataset with these columns, 1 in all others."""
    n = len(next(iter(given.values())))
    columns = [
        pa.array(given.get(field.name, ["a 1" if field.type == pa.string() else 1] * n)) for field in dataset.schema
    ]
    return pa.table([one.cast(field.type) for one, field in zip(columns, dataset.schema, strict=True)], dataset.schema)


def put(out, probability=(0.9, 0.8, 0.95, 0.7, 0.6, np.nan)):
    """Publish six galaxies, three in each of two patches."""
    share = np.asarray(probability)
    rows = np.where(np.arange(4) == LABELS[:, None], share[:, None], (1 - share[:, None]) / 3)
    verdicts = class_table(MORPHOLOGY, class_columns(MORPHOLOGIES, 100 + np.arange(6), rows, np.zeros(6), "net 1"))
    pictures = np.random.default_rng(1).integers(1, 255, (6, PICTURE_SIDE, PICTURE_SIDE, 3)).astype(np.uint8)
    pictures[5] = 0
    tables, arrays = CatalogStore(out), ArrayStore(out)
    places = filled(GALAXY, objectId=100 + np.arange(6), ra=10.0 + np.arange(6), dec=[-1.0] * 6)
    scores = filled(ANOMALY, objectId=100 + np.arange(5), anomalyScore=[5.0, 20.0, 8.0, 9.0, 30.0])
    for key, part in zip(KEYS, (slice(0, 3), slice(3, 6)), strict=True):
        tables.publish(MORPHOLOGY, key, verdicts.slice(part.start, 3), "d" * 64)
        tables.publish(GALAXY, key, places.slice(part.start, 3), "d" * 64)
        tables.publish(ANOMALY, key, scores.slice(part.start, 3), "d" * 64)
        arrays.publish(GALAXY_PICTURE, key, pictures[part], "d" * 64, {"objectId": 100 + np.arange(6)[part]})
    return pictures


def test_no_galaxies_no_part(tmp_path):
    assert galaxies_of(tmp_path, NIGHT) is None


def test_each_class_has_its_surest_and_the_oddest_come_last(tmp_path, monkeypatch):
    put(tmp_path)
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
    pictures = put(tmp_path)
    rows = ArrayStore(tmp_path).read_rows(GALAXY_PICTURE, NIGHT, "objectId", {101, 104, 999})
    assert sorted(rows) == [101, 104]
    assert np.array_equal(rows[104], pictures[4])
    page = write_report(tmp_path, NIGHT).read_text()
    assert page.count("Galaxy at ") == 10
    assert 'href="#galaxies"' in page


def test_a_damaged_array_is_told_and_the_rest_of_the_page_is_made(tmp_path):
    put(tmp_path)
    path = ArrayStore(tmp_path).path(GALAXY_PICTURE, KEYS[0])
    (path / "galaxy_picture/zarr.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        galaxies_of(tmp_path, NIGHT)
    assert "cannot be read" in write_report(tmp_path, NIGHT).read_text()
