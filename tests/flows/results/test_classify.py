import csv
import json
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image
from typer.testing import CliRunner

from flows.cli.app import app
from flows.inputs.picture_files import list_pictures
from flows.pipeline.weights import read_weights, write_model
from flows.results import classify as module
from flows.results.classify import classify_pictures
from flows.results.evaluation.anomaly import evaluate_anomaly
from flows.results.evaluation.picture_scores import evaluate_pictures
from kernels.pictures.picture_model import build_picture_model
from schemas.errors import BadInput, Misconfigured


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def galaxy(ratio, seed, side=96):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    light = 200 * np.exp(-np.hypot(x, y / ratio) / 8) + rng.normal(8, 2, (side, side))
    return np.repeat(np.clip(light, 0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("pictures")
    for n in range(5):
        Image.fromarray(galaxy(0.2 + 0.2 * n, n)).save(found / f"{n}.png")
    (found / "bad.jpg").write_bytes(b"no picture")
    return found


def test_each_picture_has_the_row_that_the_model_gives(folder, tmp_path):
    lines = []
    found = classify_pictures("morphology", [folder], tmp_path / "v.csv", say=lines.append)
    rows = rows_of(tmp_path / "v.csv")
    net = build_picture_model(*read_weights("morphology", "default"))
    expected = net([galaxy(0.2 + 0.2 * n, n) for n in range(5)])
    for row, shares, n in zip(rows, expected, range(5), strict=True):
        assert row["location"] == str(folder / f"{n}.png")
        assert row["label"] == ""
        assert row["verdict"] == net.card.classes[int(shares.argmax())]
        assert [float(row[name]) for name in net.card.classes] == pytest.approx(shares, abs=1e-3)
    assert found["n"] == 5
    assert sum(found["verdicts"].values()) == 5
    assert list(found["unreadable"]) == [str(folder / "bad.jpg")]
    assert lines == ["6 of 6 pictures"]


def test_pictures_without_content_are_told_and_not_judged(folder, tmp_path):
    Image.new("RGB", (96, 96)).save(tmp_path / "black.png")
    fits.writeto(tmp_path / "nan.fits", np.full((96, 96), np.nan, np.float32))
    (tmp_path / "good.png").write_bytes((folder / "1.png").read_bytes())
    found = classify_pictures("morphology", [tmp_path], tmp_path / "v.csv")
    assert [row["location"] for row in rows_of(tmp_path / "v.csv")] == [str(tmp_path / "good.png")]
    assert list(found["unreadable"]) == [str(tmp_path / "black.png"), str(tmp_path / "nan.fits")]
    assert all("shows nothing" in why and "To fix, " in why for why in found["unreadable"].values())


def test_processes_give_the_same_rows_in_the_same_order(folder, tmp_path, monkeypatch):
    classify_pictures("anomaly", [folder], tmp_path / "one.csv")
    monkeypatch.setitem(module.AT_ONCE, "anomaly", 2)
    classify_pictures("anomaly", [folder], tmp_path / "two.csv", workers=2)
    one, two = (rows_of(tmp_path / name) for name in ("one.csv", "two.csv"))
    assert [row["location"] for row in one] == [row["location"] for row in two]
    scores = [[float(row["score"]) for row in rows] for rows in (one, two)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)
    assert {float(row["verdict"]) for row in one} <= {0.0, 0.2, 0.5, 0.8, 1.0}


def test_a_large_scene_is_judged_by_tiles_and_drawn(tmp_path):
    large = np.random.default_rng(1).integers(0, 60, (700, 2500, 3)).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / "wide.png")
    Image.fromarray(large[:300, :300]).save(tmp_path / "small.png")
    out, drawn = tmp_path / "v.csv", tmp_path / "drawn"
    classify_pictures("scene", [tmp_path], out, overviews=drawn)
    rows = {row["location"].rpartition("/")[2]: row for row in rows_of(out)}
    assert rows["small.png"]["tiles"] == ""
    assert sum(int(part.rpartition(" ")[2]) for part in rows["wide.png"]["tiles"].split(", ")) == 3 * 8
    (name,) = [one.name for one in drawn.iterdir()]
    assert re.fullmatch(r"wide_[0-9a-f]{8}_tiles\.png", name)


def test_fits_of_any_large_size_is_tiled_and_names_may_be_any_bytes(tmp_path):
    for side in (1000, 1100, 2500, 4000):
        fits.writeto(
            tmp_path / f"{side}.fits", np.random.default_rng(side).normal(0, 1, (side, 300)).astype(np.float32)
        )
    os.link(tmp_path / "1000.fits", os.fsencode(tmp_path) + b"/caf\xe9.fits")
    assert classify_pictures("scene", [tmp_path], tmp_path / "v.csv")["n"] == 5
    with (tmp_path / "v.csv").open(encoding="utf-8", errors="surrogateescape") as file:
        tiles = {Path(row["location"]).stem: row["tiles"] for row in csv.DictReader(file)}
    without = {name for name, said in tiles.items() if not said}
    assert without == {"1000", "caf\udce9"}


def test_the_command_writes_the_table_and_says_what_is_in_it(folder, tmp_path):
    (tmp_path / "table.csv").write_text(f"location,label\n{folder / '1.png'},\n{folder / '2.png'},spiral\n")
    command = ["classify", "morphology", "--data", str(tmp_path / "table.csv"), "--out", str(tmp_path / "v.csv")]
    run = CliRunner().invoke(app, [*command, "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout.strip().splitlines()[-1])["n"] == 2
    assert [row["label"] for row in rows_of(tmp_path / "v.csv")] == ["", "spiral"]


def test_the_table_can_be_read_again_wherever_it_is(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (tmp_path / "made" / "here").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "made" / "here")
    whole = {path.resolve() for path in folder.glob("*.png")}
    for place in (Path("v.csv"), tmp_path / "made" / "v.csv", tmp_path / "link" / "v.csv"):
        for given in (Path(folder.name), folder):
            classify_pictures("morphology", [given], place)
            monkeypatch.chdir(tmp_path)
            assert {one.path.resolve() for one in list_pictures(folder.parent / place)} == whole
            monkeypatch.chdir(folder.parent)


def test_what_cannot_be_is_refused_and_nothing_is_written(folder, tmp_path):
    out = tmp_path / "v.csv"
    with pytest.raises(Misconfigured, match="morphology, scene, cluster, anomaly"):
        classify_pictures("weather", [folder], out)
    with pytest.raises(Misconfigured, match="no model"):
        classify_pictures("scene", [folder], out, "nobody")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.jpg").write_bytes(b"no picture")
    with pytest.raises(
        BadInput, match=r"none of 1 pictures can be read; of the first: .*1.jpg: is neither JPEG, PNG nor FITS"
    ):
        classify_pictures("scene", [tmp_path / "bad"], out)
    (tmp_path / "black").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "black/1.png")
    with pytest.raises(BadInput, match="shows nothing: all pixels are 0"):
        classify_pictures("scene", [tmp_path / "black"], out)
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_refused_before_any_work(folder, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text(f"location,label,note\n{folder / '1.png'},,keep\n")
    (tmp_path / "file").touch()
    for out, code in ((tmp_path, "not_writable"), (tmp_path / "file/v", "not_writable"), (table, "overwrites_input")):
        said = []
        with pytest.raises(Misconfigured, match="--out") as refused:
            classify_pictures("morphology", [table], out, say=said.append)
        assert (refused.value.code, said) == (code, [])
    assert "keep" in table.read_text()
    with pytest.raises(Misconfigured, match="--overviews"):
        classify_pictures("scene", [folder], tmp_path / "v.csv", overviews=table)
    for evaluate in (partial(evaluate_pictures, "morphology", [folder]), partial(evaluate_anomaly, [folder], ["x"])):
        with pytest.raises(Misconfigured, match="--pictures"):
            evaluate(draw=table)


def test_a_card_that_is_not_of_its_weights_is_named(folder, tmp_path):
    card, arrays = read_weights("morphology", "default")
    model = str(tmp_path / "mine")
    write_model(Path(model), arrays, card.model_dump() | {"classes": card.classes[:2]})
    with pytest.raises(Misconfigured, match=r"mine/morphology: cannot be built: RuntimeError: .*size mismatch"):
        classify_pictures("morphology", [folder], tmp_path / "v.csv", model, None, 1)
    with pytest.raises(Misconfigured, match=r"mine/morphology: cannot be built: RuntimeError: .*size mismatch"):
        evaluate_pictures("morphology", [folder], model)
    wrong = ({"symmetries": 0}, {"crop": 9})
    for change in (*({"input": card.input | one} for one in wrong), {"calibration": {"temperature": 0}}):
        write_model(Path(model), arrays, card.model_dump() | change)
        with pytest.raises(Misconfigured, match=r"cannot be built: ValueError: its card gives (sym|crop|temp)"):
            classify_pictures("morphology", [folder], tmp_path / "v.csv", model, None, 1)
