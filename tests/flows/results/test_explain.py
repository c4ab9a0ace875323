import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from flows.results import explain
from flows.results.explain import cutout_of, explain_detection, explanation_words, settings_changes
from flows.results.explain_static import explain_static
from flows.results.page.words import measured
from flows.storage.association_tables import FILE
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import file_digest
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.ledger import SourceFile
from schemas.settings import AssociationSettings, Settings
from tests.support.alert_night import info_of, make_night
from tests.support.night import settings_of

pytest_plugins = ("tests.support.night_fixture",)


@pytest.fixture(scope="module")
def published(uninterrupted):
    """Rows of `dia_source` of the night."""
    files = sorted((uninterrupted[1] / "catalogs" / "dia_source").rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def test_a_detection_is_followed_to_pixels_models_settings_and_code(published, uninterrupted, night_models):
    _, out = uninterrupted
    for row in published:
        found = explain_detection(out, row["diaSourceId"], AssociationSettings())
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
    lines = str(found).splitlines()
    assert lines[0].split()[:2] == ["detection", f"{row['diaSourceId']},"]
    assert any(line.startswith("sha256 ") and line.endswith(found.source_sha256) for line in lines)
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
    record = explain_detection(out, row["diaSourceId"], AssociationSettings()).record
    gone = record.model_copy(update={"source_uri": str(tmp_path / "gone.fits.fz"), "source_files": {}})
    Ledger(out).put(gone)
    assert explain_detection(out, row["diaSourceId"], AssociationSettings()).source_state == "unreachable"
    shutil.copyfile(record.source_uri, gone.source_uri)
    with fits.open(gone.source_uri, mode="update") as hdus:
        hdus[1].header["OBSERVER"] = "somebody else"
    assert explain_detection(out, row["diaSourceId"], AssociationSettings()).source_state == "changed"


def test_each_file_of_an_exposure_is_told_with_its_state(published, uninterrupted, tmp_path):
    row = published[0]
    out = shutil.copytree(uninterrupted[1], tmp_path / "out")
    record = explain_detection(out, row["diaSourceId"], AssociationSettings()).record
    (tmp_path / "science.fits").write_bytes(b"of a manifest")
    files = {
        plane: SourceFile(uri=uri, sha256=file_digest(Path(uri)))
        for plane, uri in (("difference", record.source_uri), ("science", str(tmp_path / "science.fits")))
    }
    Ledger(out).put(record.model_copy(update={"source_files": files, "source_sha256": "of both"}))
    found = explain_detection(out, row["diaSourceId"], AssociationSettings())
    assert found.source_state == "unchanged"
    assert explanation_words(found)["sha256 difference"] == file_digest(Path(record.source_uri))
    (tmp_path / "science.fits").write_bytes(b"other")
    found = explain_detection(out, row["diaSourceId"], AssociationSettings())
    words = explanation_words(found)
    assert found.source_state == "changed"
    assert words["file difference"].endswith("(unchanged)")
    assert words["file science"].endswith("science.fits (changed)")


def test_without_tiles_and_provenance_the_rest_is_told(published, uninterrupted, tmp_path):
    row = published[0]
    out = shutil.copytree(uninterrupted[1], tmp_path / "out")
    record = explain_detection(out, row["diaSourceId"], AssociationSettings()).record
    Ledger(out).put(record.model_copy(update={"provenance": None}))
    shutil.rmtree(out / "tiles")
    found = explain_detection(out, row["diaSourceId"], AssociationSettings())
    assert (found.tiles_digest, found.provenance) == (None, None)
    assert found.detection == row


@pytest.mark.parametrize("other", [lambda number: number + 4095, lambda number: 7])
def test_an_id_that_nothing_has_is_refused(published, uninterrupted, other):
    with pytest.raises(Misconfigured, match=r"holds no detection \d+, nor an object of that id\."):
        explain_detection(uninterrupted[1], other(published[0]["diaSourceId"] & ~0xFFF), AssociationSettings())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Misconfigured, match="there is no folder of this name"):
        explain_detection(tmp_path / "nope", 1, AssociationSettings())


def recorded(**sections):
    return Settings(**sections).model_dump(mode="json")


def test_defaults_are_no_changes():
    assert settings_changes(recorded()) == {}


def test_the_environment_is_no_default(monkeypatch):
    before = recorded()
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__STRIDE", "9")
    assert settings_changes(before) == {}
    assert settings_changes(recorded()) == {"detect.stride": 9}


def test_what_was_set_is_named_however_deep_it_is():
    made = recorded(
        detect={"stride": 5},
        fits={"visit": {"keyword": "EXPID"}},
        inject={"snr": (4, 9)},
        cluster={"slurm": {"cores": 3}},
    )
    assert settings_changes(made) == {
        "detect.stride": 5, "fits.visit.keyword": "EXPID", "inject.snr": [4.0, 9.0], "cluster.slurm.cores": 3,
    }  # fmt: skip


def test_what_an_older_version_knew_is_told():
    assert settings_changes({"detect": {"stride": 7, "gone": None}, "old": {}}) == {"detect.gone": None, "old": {}}


def test_a_cutout_of_an_even_side_and_of_a_fraction_of_a_pixel():
    even = cutout_of(10.0, 20.5, 4)
    assert (even.x, even.y, even.section) == ((8, 12), (19, 23), "[9:12,20:23]")
    assert cutout_of(0.4, 0.6, 1).x == (0, 1)
    assert cutout_of(0.4, 0.6, 1).y == (1, 2)


def test_the_object_is_told_where_the_association_is_kept_and_nothing_is_made_where_it_is_not(tmp_path):
    out = make_night(tmp_path / "out", visits=2, count=4, planes=())
    ids = [CatalogStore(out).read(DIA_SOURCE, info_of(n))["diaSourceId"].to_pylist()[1] for n in range(2)]
    kept, nowhere = AssociationSettings(), AssociationSettings(store="none")
    history = explain_detection(out, ids[0], kept).history
    assert [one["diaSourceId"] for one in history.detections] == ids
    told = explanation_words(explain_detection(out, ids[0], kept))
    flux, error = (history.detections[0][name] for name in ("psfFlux", "psfFluxErr"))
    assert f", {measured(flux, error, 0, ' nJy')}, " in told[f"seen {ids[0]}"]
    assert " ± " in told[f"seen {ids[0]}"]
    assert explain_detection(out, ids[0], nowhere).history is None
    (out / FILE).unlink()
    assert explain_detection(out, ids[0], kept).history is None
    assert not (out / FILE).exists()


@pytest.mark.parametrize("identity", [-1, 2**63])
def test_no_lasting_object_has_an_id_that_no_column_holds(tmp_path, identity):
    assert explain_static(tmp_path, identity, None) is None


@pytest.mark.parametrize(("magnitude", "told"), [(None, ""), (18.25, ", V 18.2")])
def test_a_known_object_is_told_with_its_magnitude_where_there_is_one(magnitude, told):
    row = {"designation": "(433) Eros", "ephVmag": magnitude, "ephRate": 0.4, "ephOffsetAlongTrack": 0.1}
    found = SimpleNamespace(known=row | {"ephOffsetCrossTrack": -0.25})
    words = f"(433) Eros{told}, 0.4000 deg/day, +0.10 arcsec along, -0.25 across from its ephemeris"
    assert explain._known_words(found) == {"known object": words}
    assert explain._known_words(SimpleNamespace(known=None)) == {}


@pytest.mark.parametrize("place", [{}, {"ra": 10.0, "dec": None}, {"ra": None, "dec": 10.0}])
def test_a_detection_without_a_place_on_the_sky_is_said_to_have_none(place):
    assert explain._sky_words(place) == {"sky": "not known: the image has no WCS"}
    assert explain._sky_words({"ra": 10.0, "dec": -0.5})["sky"].startswith("RA 10.000000, Dec -0.500000 deg")
