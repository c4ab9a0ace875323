import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.pipeline.models import load_model
from flows.results.evaluation import spectral
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from tests.support.exposure import exposure_record
from tests.support.filled import filled


def evaluate(*arguments):
    return CliRunner().invoke(app, ["evaluate", "detect", *map(str, arguments)])


@pytest.fixture
def night(tmp_path):
    """Two exposures: on the first one streak of two is found, and one detection is false."""
    found = {
        "x": [50.5, 20.0],
        "y": [50.0, 80.0],
        "reliability": [0.9, 0.4],
        "snr": [12.0, 6.0],
        "trailLengthPx": [10.0, 1.0],
    }
    for visit, rows in ((1, 2), (2, 0)):
        key = ExposureKey(night="20260101", visit=visit, detector=0)
        table = filled(DIA_SOURCE.schema, rows, **{name: values[:rows] for name, values in found.items()})
        CatalogStore(tmp_path).publish(DIA_SOURCE, key, table, "d")
        Ledger(tmp_path).put(exposure_record(key, source_uri="file", finished_at="2026-01-01T00:00:00Z"))
    return tmp_path


def truth(path, visit, x):
    n = len(x)
    columns = {"kind": ["streak"] * n, "visit": [visit] * n, "detector": [0] * n, "x": x, "y": [50.0] * n}
    columns |= {"snr": [12.0] * n, "length_px": [10.0] * n, "angle_deg": [0.0] * n}
    pq.write_table(pa.table(columns), path)
    return path


def test_json(night, tmp_path):
    files = [truth(tmp_path / "a", 1, [50.0, 150.0]), truth(tmp_path / "b", 9, [50.0])]
    result = evaluate(night, "--truth", files[0], "--truth", files[1], "--json")
    figures = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 0
    assert (figures["images"], figures["n_streaks"], figures["false_per_image"]) == (2, 2, 0.5)
    assert figures["c7"] == figures["c10"] == 0.5
    assert figures["s50"] is None
    assert figures["oracle"] is None
    assert figures["position_px"]["bias"] == pytest.approx(0.5)
    assert figures["length_px"]["bias"] == 0.0
    assert figures["images_with_truth_not_searched"] == 1
    assert evaluate(night, "--truth", files[0], files[1], "--json").stdout == result.stdout


def test_a_night_that_the_truth_does_not_know_is_left_out(night, tmp_path):
    (record, *_) = Ledger(night).records()
    Ledger(night).put(record.model_copy(update={"night": "20991231", "visit": 77}))
    result = evaluate(night, "--truth", truth(tmp_path / "a", 1, [50.0, 150.0]), "--json")
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["images"], figures["nights_without_truth"]) == (2, ["20991231"])
    assert "the truth holds none of their images: night 20991231." in result.stderr


def test_table_and_pictures(night, tmp_path):
    result = evaluate(night, "--truth", truth(tmp_path / "a", 1, [50.0, 150.0]), "--pictures", tmp_path / "pictures")
    assert result.exit_code == 0
    assert "2 streaks on 2 images" in result.stdout
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give OUT and --truth FILE, or --stamps PATH"),
        (["{out}"], "give OUT and --truth FILE, or --stamps PATH"),
        (["{out}", "--truth", "{out}/absent"], "absent: does not exist"),
        (["{out}/nothing", "--truth", "{out}/truth"], "no exposure that was searched"),
        (["--stamps", "{out}/nothing"], "nothing: does not exist"),
        (["{out}", "--inject-stamps"], "give --stamps PATH, too"),
    ],
)
def test_usage_errors_are_exit_code_2(night, arguments, message):
    truth(night / "truth", 1, np.array([50.0]))
    result = evaluate(*(each.format(out=night) for each in arguments))
    assert result.exit_code == 2
    assert message in result.stderr


def test_truth_of_another_night_is_refused(night, tmp_path):
    result = evaluate(night, "--truth", truth(tmp_path / "other", 9, [50.0]))
    assert result.exit_code == 2
    assert "holds none of the 2 images" in result.stderr
    assert "visit 9, detector 0" in result.stderr


def test_classes_of_an_archive_table(tmp_path):
    table = tmp_path / "table.csv"
    rows = [
        "19.4,17.6,16.7,16.3,16.0,GALAXY,0.08",
        "17.93,16.5,16.05,15.93,15.9,STAR,0.0",
        "18.6,18.4,18.3,18.1,18.1,QSO,1.4",
    ]
    table.write_text("\n".join(["u,g,r,i,z,class,redshift", *rows]))
    result = CliRunner().invoke(app, ["evaluate", "spectral-class", "--data", str(table), "--json"])
    assert result.exit_code == 0
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["n"] == 3
    assert figures["confusion"] == np.eye(3, dtype=int).tolist()
    assert {"accuracy", "accuracy_interval", "auc", "macro_f1", "baselines"} <= figures["models"]["photometry"].keys()
    shown = CliRunner().invoke(app, ["evaluate", "spectral-class", "--data", str(table)])
    assert "nearest_colour" in shown.stdout
    other = ["evaluate", "spectral-class", "--data", str(table), "--json", "--system"]
    figures = json.loads(CliRunner().invoke(app, [*other, "ztf"]).stdout.splitlines()[-1])
    assert (figures["system"], figures["n"], figures["untransformed"]) == ("ztf", 3, {})
    assert CliRunner().invoke(app, [*other, "acme"]).exit_code == 2


def test_a_deep_table_without_u_is_warned_of(tmp_path):
    table = tmp_path / "table.csv"
    rows = ["20.6,19.7,19.3,19.0,GALAXY", "20.5,20.05,19.93,19.9,STAR", "17.6,16.7,16.3,16.0,GALAXY"]
    table.write_text("\n".join(["g,r,i,z,class", *rows]))
    words = ["evaluate", "spectral-class", "--data", str(table), "--system", "ps1"]
    assert "WARNING: 2 of 3 rows lack u and are fainter" in CliRunner().invoke(app, words).stderr
    assert "WARNING" not in CliRunner().invoke(app, [*words, "--photometry", "colours"]).stderr


def test_a_table_that_made_the_model_is_no_test_of_it(tmp_path, monkeypatch):
    table = tmp_path / "table.csv"
    rows = ["19.4,17.6,16.7,16.3,16.0,GALAXY,0.08", "17.93,16.5,16.05,15.93,15.9,STAR,0.0"]
    table.write_text("\n".join(["u,g,r,i,z,class,redshift", *rows]))
    words = ["evaluate", "spectral-class", "--data", str(table)]
    assert "WARNING" not in CliRunner().invoke(app, words).stderr

    def trained_on_it(stage, name):
        model = load_model(stage, name)
        training = {**model.card.training, "data_sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
        return replace(model, card=model.card.model_copy(update={"training": training}))

    monkeypatch.setattr(spectral, "load_model", trained_on_it)
    for more in ([], ["--json"], ["-q"]):
        told = CliRunner().invoke(app, [*words, *more])
        assert "WARNING: this table made photometry and redshift" in told.stderr
        assert told.exit_code == 0


def test_a_table_in_jansky_is_bad_usage(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("u,g,r,i,z,class\n" + "1e-4,2e-4,3e-4,4e-4,5e-4,STAR\n" * 5)
    result = CliRunner().invoke(app, ["evaluate", "spectral-class", "--data", str(table)])
    assert result.exit_code == 2
    assert "must hold AB magnitudes" in result.stderr


def test_stars_and_galaxies_by_the_shipped_model(tmp_path):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:20, :20] - 10
    widths = np.repeat([0.85, 2.5], 20)
    blobs = 3000 * np.exp(-(x**2 + y**2) / (2 * widths[:, None, None] ** 2)) / widths[:, None, None] ** 2
    cutouts = (250 + blobs + rng.normal(0, 12, blobs.shape)).astype(np.float32)
    np.savez(tmp_path / "data.npz", X=cutouts, y=np.repeat(["star", "galaxy"], 20))
    result = CliRunner().invoke(app, ["evaluate", "star-galaxy", "--data", str(tmp_path / "data.npz"), "--json"])
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])
    keys = {"n", "accuracy", "accuracy_interval", "auc", "macro_f1", "confusion"}
    assert keys <= set(figures)
    assert all(keys <= set(one) for one in figures["baselines"].values())
    assert figures["n"] == 40
    assert figures["accuracy"] > 0.9
    shown = CliRunner().invoke(app, ["evaluate", "star-galaxy", "--data", str(tmp_path / "data.npz")]).stdout
    assert not shown.startswith("{")
    assert f"accuracy  {figures['accuracy']:.4g}" in " ".join(shown.split()).replace("accuracy ", "accuracy  ")
    assert "baselines" in shown


def test_stars_and_galaxies_of_a_bad_file_is_bad_usage(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.zeros((2, 12, 12)), y=np.array(["star", "galaxy"]))
    result = CliRunner().invoke(app, ["evaluate", "star-galaxy", "--data", str(tmp_path / "data.npz")])
    assert result.exit_code == 2
    assert "less than 16 px" in result.stderr
