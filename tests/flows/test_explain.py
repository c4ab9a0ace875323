import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from flows.adapters.ledger import Ledger
from flows.explain import cutout_of, explain
from schemas.errors import Misconfigured
from schemas.settings import Settings
from tests.flows.night_support import settings_of

pytest_plugins = ("tests.flows.night_fixture",)


@pytest.fixture(scope="module")
def published(uninterrupted):
    """Rows of `dia_source` of the night."""
    files = sorted((uninterrupted[1] / "catalogs" / "dia_source").rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def test_a_detection_is_followed_to_pixels_models_settings_and_code(published, uninterrupted, night_models):
    _, out = uninterrupted
    for row in published:
        found = explain(out, row["diaSourceId"])
        assert found.detection == row
        assert (found.record.visit, found.record.detector) == (row["visit"], row["detector"])
        assert found.source_state == "unchanged"
        with fits.open(found.source_uri) as hdus:
            assert hdus[1].header["EXPID"] == row["visit"]
    assert Settings.model_validate(found.provenance.settings) == settings_of(night_models)
    assert found.provenance.models["detect"].stage == "detect"
    assert found.record.datasets["dia_source"].digest == found.catalogues["dia_source"][1]
    assert (out / found.catalogues["dia_source"][0]).exists()
    assert (out / found.tiles).is_dir()
    assert len(found.tiles_digest) == 64
    values = json.loads(json.dumps(found.values()))
    assert values["cutout"]["section"] == found.cutout.section
    assert values["provenance"]["models"]["detect"]["sha256"] == found.provenance.models["detect"].sha256


def test_the_cutout_holds_the_pixels_about_the_position():
    assert cutout_of(10.0, 20.0, 5).x == (8, 13)
    assert cutout_of(10.0, 20.0, 5).y == (18, 23)
    image = np.zeros((40, 30))
    image[20, 10] = 1
    cutout = cutout_of(10.2, 19.8, 5)
    cut = image[slice(*cutout.y), slice(*cutout.x)]
    assert cut.shape == (5, 5)
    assert cut[2, 2] == 1
    assert cutout.section == "[9:13,19:23]"  # FITS: from 1, both ends included


def test_a_file_that_changed_or_went_is_said_to(published, uninterrupted, tmp_path):
    row = published[0]
    out = shutil.copytree(uninterrupted[1], tmp_path / "out")
    record = explain(out, row["diaSourceId"]).record
    gone = record.model_copy(update={"source_uri": str(tmp_path / "gone.fits.fz")})
    Ledger(out).put(gone)
    assert explain(out, row["diaSourceId"]).source_state == "unreachable"
    shutil.copyfile(record.source_uri, gone.source_uri)
    with fits.open(gone.source_uri, mode="update") as hdus:
        hdus[1].header["OBSERVER"] = "somebody else"
    assert explain(out, row["diaSourceId"]).source_state == "changed"


def test_without_tiles_and_provenance_the_rest_is_told(published, uninterrupted, tmp_path):
    row = published[0]
    out = shutil.copytree(uninterrupted[1], tmp_path / "out")
    record = explain(out, row["diaSourceId"]).record
    Ledger(out).put(record.model_copy(update={"provenance": None}))
    shutil.rmtree(out / "tiles")
    found = explain(out, row["diaSourceId"])
    assert (found.tiles_digest, found.provenance) == (None, None)
    assert found.detection == row


@pytest.mark.parametrize("other", [lambda number: number + 4095, lambda number: 7])
def test_an_id_that_nothing_has_is_refused(published, uninterrupted, other):
    with pytest.raises(Misconfigured, match="holds no detection"):
        explain(uninterrupted[1], other(published[0]["diaSourceId"] & ~0xFFF))
