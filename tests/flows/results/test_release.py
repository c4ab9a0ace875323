import json
import shutil
import subprocess
from hashlib import sha256

import pytest

import nightstride as ns
from flows.pipeline.graph import declared_tables
from flows.publish.outbox import opened_outbox
from flows.publish.submissions import Submissions
from flows.results import release
from flows.results.release import SUMS, freeze_release, with_manifest
from flows.results.verify import verify_output
from flows.storage.catalog_store import CatalogStore
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from flows.storage.object_store import configure
from flows.storage.release_note import read_note
from flows.vetting.verdicts import VerdictStore
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import NightRecord, PatchRecord, ProvenanceRecord
from schemas.night_range import NightRange
from schemas.objects import OBJECT
from schemas.patch import PatchKey
from schemas.quality import QualityRecord
from schemas.settings import Settings, StoreSettings
from schemas.vetting import Verdict
from tests.support.association import detections
from tests.support.cards import model_card
from tests.support.cli import nightstride
from tests.support.exposure import exposure_record
from tests.support.memory_store import bucket_in_memory
from tests.support.tracklets import publish_linked

pytest_plugins = ("tests.support.night_fixture", "tests.support.s3_fixture")
TABLES = declared_tables()


@pytest.fixture
def out(tmp_path):
    publish_linked(tmp_path / "out")
    return tmp_path / "out"


def problems(folder):
    return [one.code for one in with_manifest(folder, verify_output(folder, TABLES)).problems]


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_release_is_what_was_published_and_never_changes(out, tmp_path):
    made = freeze_release(out, tmp_path / "dr1", "DR1", TABLES)
    before, was = content(tmp_path / "dr1"), ns.open(out).detections().to_arrow()
    assert (made.note.nights, made.note.exposures, made.note.rows["dia_source"]) == (("20261103",), 3, 15)
    assert made.files == len(before) - 1
    shutil.rmtree(out / "catalogs" / "tracklet")
    for path in (out / "catalogs" / "dia_source").rglob("*.parquet"):
        path.write_bytes(b"made again")
    record = next(Ledger(out).records())
    Ledger(out).remove(record.key)
    assert content(tmp_path / "dr1") == before
    released = ns.open(tmp_path / "dr1")
    assert released.detections().to_arrow().equals(was)
    assert released.release.name == "DR1"
    assert "release DR1" in repr(released)
    assert len(released.exposures) == 3
    assert problems(tmp_path / "dr1") == []


def test_the_manifest_is_checked_by_others_too(out, tmp_path):
    freeze_release(out, tmp_path / "dr1", "DR1", TABLES)
    run = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path / "dr1", capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("change", ["altered", "missing_file", "unknown_file", "damaged_release"])
def test_what_was_changed_in_it_is_found(out, tmp_path, change):
    folder = tmp_path / "dr1"
    freeze_release(out, folder, "DR1", TABLES)
    note = folder / "release.json"
    if change == "altered":
        note.chmod(0o644)
        note.write_text(note.read_text().replace("DR1", "DR2"))
    elif change == "missing_file":
        note.unlink()
    elif change == "unknown_file":
        (folder / "more.txt").touch()
    else:
        (folder / SUMS).unlink()
    assert change in problems(folder)


def test_a_catalogue_that_was_changed_is_told_once_with_what_helps_of_a_release(out, tmp_path):
    folder = tmp_path / "dr1"
    freeze_release(out, folder, "DR1", TABLES)
    path = next((folder / "catalogs/dia_source").rglob("*.parquet"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    (told,) = with_manifest(folder, verify_output(folder, TABLES)).problems
    assert (told.code, told.where) == ("altered", str(path))
    assert told.remedy == "copy the release again from where it was published."


def test_nobody_writes_to_it(out, tmp_path):
    freeze_release(out, tmp_path / "dr1", "DR1", TABLES)
    assert all(path.stat().st_mode & 0o222 == 0 for path in (tmp_path / "dr1").rglob("*") if path.is_file())
    with pytest.raises(Misconfigured, match="is a data release: nothing in it changes"), lease(tmp_path / "dr1"):
        pass
    with pytest.raises(Misconfigured, match="nothing in it changes"):
        VerdictStore(tmp_path / "dr1").add("a", "20260101", 1, (1.0, 1.0), Verdict.REAL, blind=False)
    with pytest.raises(Misconfigured, match="nothing in it changes"), opened_outbox(tmp_path / "dr1"):
        pass
    with pytest.raises(Misconfigured, match="nothing in it changes"), Submissions(tmp_path / "dr1").lock("20260101"):
        pass
    answer = nightstride("report", tmp_path / "dr1")
    assert answer.code == 2
    assert "nothing in it changes" in answer.stderr
    for words in (("--at", "150,20"), ("none.csv",), ("--dia-objects",)):
        answer = nightstride("forced", tmp_path / "dr1", *words)
        assert (answer.code, "no pixels to measure on. To fix, measure in the output" in answer.stderr) == (2, True)
    assert not with_manifest(tmp_path / "dr1", verify_output(tmp_path / "dr1", TABLES)).problems


@pytest.mark.parametrize(
    ("name", "to", "span", "says"),
    [
        ("DR 1", "dr1", (), "bad_name"),
        ("DR1", "out", (), "folder_exists"),
        ("DR1", "none/dr1", (), "no_folder"),
        ("DR1", "out/dr1", (), "in_output"),
        ("DR1", "dr1", (NightRange("20270101"),), "no_night"),
    ],
)
def test_bad_usage_leaves_nothing(out, tmp_path, name, to, span, says):
    with pytest.raises(Misconfigured) as raised:
        freeze_release(out, tmp_path / to, name, TABLES, *span)
    assert raised.value.code == says
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (out / "dr1").exists()


def test_a_release_is_not_put_into_its_output_folder_by_another_name_either(out, tmp_path):
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(Misconfigured) as raised:
        freeze_release(out, tmp_path / "link" / "dr1", "DR1", TABLES)
    assert raised.value.code == "in_output"


def test_all_that_is_known_of_a_night_is_released_from_a_bucket_and_a_damaged_one_is_not_left_out(
    monkeypatch, tmp_path
):
    out, _ = bucket_in_memory(monkeypatch)
    patch, ledger = PatchKey(night="20260101", order=5, pixel=7), Ledger(out)
    put(out, patch.night, [1])
    path = CatalogStore(out).publish(OBJECT, patch, OBJECT.empty(), "d")
    datasets = {OBJECT.name: CatalogStore(out).record(path)}
    ledger.put_patch(PatchRecord(**patch.model_dump(), datasets=datasets, software="1", finished_at="now"))
    of_night = ProvenanceRecord(settings={}, models={}, stages={"link": "1"}, software="1", code="c")
    made = {"provenance": ledger.put_provenance(of_night), "software": "1", "finished_at": "now"}
    ledger.put_night(NightRecord(night=patch.night, exposures=1, **made))
    ledger.put_quality(QualityRecord(night=patch.night, digest="d", rules="r", measured=(), judged=(), software="1"))
    told = freeze_release(out, tmp_path / "dr1", "DR1", TABLES)
    released = Ledger(tmp_path / "dr1")
    assert list(released.patches(patch.night)) == list(ledger.patches(patch.night))
    assert released.quality(patch.night) == ledger.quality(patch.night)
    assert released.provenance(released.night(patch.night).provenance) == of_night
    (record,) = ledger.records()
    assert told.note.ledger == sha256(f"{record.model_dump_json()}\n".encode()).hexdigest()
    damaged = BadInput("damaged_record", "patch", "is no JSON.", "run again.")
    monkeypatch.setattr(Ledger, "patches", lambda *_: [damaged])
    with pytest.raises(BadInput, match="no JSON"):
        freeze_release(out, tmp_path / "dr2", "DR2", TABLES)
    configure(StoreSettings())


def test_what_is_not_whole_is_not_released(out, tmp_path):
    path = next((out / "catalogs" / "dia_source").rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Misconfigured, match=r"cannot be released: .*cannot be read as Parquet"):
        freeze_release(out, tmp_path / "dr1", "DR1", TABLES)
    path.unlink()
    with pytest.raises(Misconfigured, match="is in the ledger, and not there"):
        freeze_release(out, tmp_path / "dr1", "DR1", TABLES)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_that_goes_on_is_waited_for_by_nobody(out, tmp_path):
    with lease(out), pytest.raises(Misconfigured) as raised:
        freeze_release(out, tmp_path / "dr1", "DR1", TABLES)
    assert raised.value.code == "locked"


@pytest.mark.slow
def test_a_night_that_was_run_is_frozen_with_its_models(uninterrupted, night_models, tmp_path):
    out = shutil.copytree(uninterrupted[1], tmp_path / "out")
    told = nightstride("release", out, "--name", "DR1", "--to", tmp_path / "dr1", "--json")
    assert told.code == 0, told.stderr
    said = told.summary
    assert read_note(tmp_path / "dr1").models == said["models"]
    weights = {path.parent.name: path for path in (tmp_path / "dr1" / "models").rglob("*.safetensors")}
    assert said["weights_missing"] == []
    assert len(weights) == len(said["models"])
    detect = next(name for name in said["models"] if name.startswith("detect/"))
    (own,) = (tmp_path / "dr1/models" / detect).glob("*.safetensors")
    assert own.read_bytes() == (night_models / "detect.safetensors").read_bytes()
    settings = [json.loads(path.read_text()) for path in (tmp_path / "dr1/settings").iterdir()]
    assert str(night_models) in {one["settings"]["detect"]["model"] for one in settings}
    checked = nightstride("verify", tmp_path / "dr1")
    assert checked.code == 0, checked.stdout + checked.stderr
    assert "all is well" in checked.stdout
    again = nightstride("release", out, "--name", "DR1", "--to", tmp_path / "dr1")
    assert (again.code, "is there already; a release never changes" in again.stderr) == (2, True)
    assert nightstride("run", tmp_path, "--out", tmp_path / "dr1").code == 2


def put(out, night, visits):
    """Publish exposures of a detection each."""
    store, ledger = CatalogStore(out), Ledger(out)
    for visit in visits:
        key = ExposureKey(night=night, visit=visit, detector=3)
        entry = store.record(store.publish(DIA_SOURCE, key, detections(visit, [150.0], [20.0]), "d"))
        ledger.put(exposure_record(key, source_uri="x", datasets={"dia_source": entry}, detections=1))
    ledger.settle()


def test_one_night_of_several_from_a_bucket(bucket, tmp_path):
    for number, night in enumerate(("20260101", "20260102", "20260103")):
        put(bucket, night, [number])
    made = freeze_release(bucket, tmp_path / "dr1", "DR1", TABLES, NightRange.of("20260102"))
    assert made.note.nights == ("20260102",)
    assert ns.open(tmp_path / "dr1").detections().to_arrow()["visit"].to_pylist() == [1]
    assert problems(tmp_path / "dr1") == []


def test_many_exposures_are_joined(tmp_path):
    put(tmp_path / "out", "20260101", range(20))
    freeze_release(tmp_path / "out", tmp_path / "dr1", "DR1", TABLES)
    assert len(list((tmp_path / "dr1" / "catalogs").rglob("*.parquet"))) == 1
    both = [ns.open(tmp_path / name).detections().to_arrow() for name in ("out", "dr1")]
    assert both[0].sort_by("visit").equals(both[1].sort_by("visit"))
    assert ns.open(tmp_path / "dr1").lightcurve(5 << 21 | 3 << 12)["visit"].tolist() == [5]
    assert problems(tmp_path / "dr1") == []


def test_models_are_there_once_and_weights_only_if_they_are_those_that_searched(tmp_path, monkeypatch):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"the weights")
    own, other = (model_card(sha256=sha256(text).hexdigest(), name=name) for name, text in
                  (("own", b"the weights"), ("other", b"others")))  # fmt: skip
    monkeypatch.setattr(release, "location_of", lambda *_: str(tmp_path / "own"))
    made = [
        ProvenanceRecord(settings={"of": n}, models={"detect": card}, stages={}, software="1", code="c")
        for n, card in enumerate((own, own, other))
    ]
    (tmp_path / "staged").mkdir()
    models, missing = release._copy_models(tmp_path / "staged", {f"d{n}": one for n, one in enumerate(made)})
    names = [f"detect/{card.name}-{card.sha256[:12]}" for card in (own, other)]
    assert models == {name: card.sha256 for name, card in zip(names, (own, other), strict=True)}
    assert missing == (names[1],)
    assert sorted(path.relative_to(tmp_path / "staged").as_posix() for path in (tmp_path / "staged").rglob("*.*")) == [
        f"models/{names[1]}/detect.json", f"models/{names[0]}/detect.json", f"models/{names[0]}/detect.safetensors",
        "settings/d0.json", "settings/d1.json", "settings/d2.json",
    ]  # fmt: skip
    weights.unlink()
    assert release._weights("detect", own, Settings()) is None


def test_of_a_folder_without_a_night_there_is_nothing_to_release(tmp_path):
    with pytest.raises(Misconfigured, match="holds no night") as caught:
        release._nights(tmp_path, NightRange.of("20260101"))
    assert caught.value.code == "no_night"
