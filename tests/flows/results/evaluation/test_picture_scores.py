import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import classification_report, confusion_matrix
from typer.testing import CliRunner

from flows.cli.app import app
from flows.inputs.picture_files import list_pictures, read_picture
from flows.pipeline.weights import read_weights, write_model
from flows.results.evaluation import picture_scores
from flows.results.evaluation.anomaly import evaluate_anomaly
from flows.results.evaluation.picture_scores import (
    LEARNT,
    content_number,
    evaluate_pictures,
    picture_figures,
    read_unseen,
)
from flows.storage.digest import file_digest
from kernels.pictures.compact_net import PictureNet
from kernels.pictures.picture_model import build_picture_model, shown_picture
from schemas.errors import BadInput
from schemas.picture_classes import MORPHOLOGIES, SCENES


def one(*names):
    return frozenset(names)


def drawn(n=200, seed=1):
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 3, n)
    probability = rng.dirichlet([1.0] * 4, n)
    probability[np.arange(n), code] += 0.3
    return code, probability / probability.sum(1, keepdims=True)


def test_figures_are_those_of_another_library():
    code, probability = drawn()
    found = picture_figures(probability, [one(MORPHOLOGIES[n]) for n in code], MORPHOLOGIES)
    given = probability[:, :3].argmax(1)
    assert found["classes"] == list(MORPHOLOGIES[:3]), "no label of the fourth: it is left out of the choice"
    assert found["confusion"] == confusion_matrix(code, given).tolist()
    report = classification_report(code, given, target_names=MORPHOLOGIES[:3], output_dict=True)
    assert found["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"], abs=1e-4)
    assert found["accuracy"] == pytest.approx(report["accuracy"], abs=1e-4)
    for name in MORPHOLOGIES[:3]:
        theirs = {one.replace("f1-score", "f1").replace("support", "n"): value for one, value in report[name].items()}
        assert found["per_class"][name] == pytest.approx(theirs, abs=1e-4)
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high


def test_a_label_of_several_classes_has_what_they_have_together():
    known = [one("spiral"), one("elliptical", "edge-on", "merger")] * 2
    probability = np.array([[0.3, 0.4, 0.2, 0.1], [0.3, 0.4, 0.2, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.6, 0.2, 0.1]])
    found = picture_figures(probability, known, MORPHOLOGIES)
    assert found["classes"] == ["spiral", "elliptical or edge-on or merger"]
    assert found["confusion"] == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("label", "right"), [(["spiral"], [1, 0, 0]), (["elliptical", "edge-on", "merger"], [0, 1, 1])]
)
def test_with_a_single_label_the_other_classes_are_possible_too(label, right):
    probability = np.array([[0.1, 0.6, 0.2, 0.1], [0.5, 0.3, 0.1, 0.1], [0.2, 0.3, 0.5, 0.0]])
    found = picture_figures(probability, [one(*label)] * 3, MORPHOLOGIES)
    assert found["accuracy"] == pytest.approx(np.mean(right), abs=1e-4)
    names = list(MORPHOLOGIES) if len(label) == 1 else ["spiral", " or ".join(label)]
    assert (found["classes"], found["auc"]) == (names, None)
    assert [found["per_class"][name]["n"] for name in names] == [
        3 if name == " or ".join(label) else 0 for name in names
    ]


def test_where_labels_overlap_the_most_probable_class_has_to_be_one_of_theirs():
    other = one("elliptical", "edge-on", "merger")
    known = [one("elliptical"), one("elliptical"), other, other, one("spiral")]
    probability = np.array(
        [[0.4, 0.3, 0.3, 0.0], [0.3, 0.2, 0.5, 0.0], [0.3, 0.5, 0.2, 0.0], [0.1, 0.2, 0.6, 0.1], [0.1, 0.8, 0.1, 0.0]]
    )
    found = picture_figures(probability, known, MORPHOLOGIES)
    assert found["classes"] == ["elliptical", "spiral", "elliptical or edge-on or merger"]
    assert found["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert found["accuracy"] == 0.6


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(1)
    for label, level in (("planets", 40), ("Nebulae", 120), ("galaxies", 200)):
        (folder / label).mkdir()
        for n in range(4):
            picture = rng.integers(level - 30, level + 30, (40, 50, 3)).astype(np.uint8)
            Image.fromarray(picture).save(folder / label / f"{n}.png")
    (folder / "cats").mkdir()
    Image.fromarray(picture).save(folder / "cats" / "1.png")
    Image.fromarray(picture).save(folder / "none.png")
    (folder / "planets" / "bad.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def model(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    arrays = {name: value.numpy() for name, value in PictureNet(classes=3).state_dict().items()}
    learnt = [content_number(pictures / "planets" / f"{n}.png") for n in (0, 1)]
    card = {
        "stage": "scene", "name": "default", "version": "1", "classes": SCENES, "training": {}, "metrics": {},
        "input": {"crop": 1.0, "side": 32, "symmetries": 2}, "threshold": 0.0, "false_alarm_rate": "",
    }  # fmt: skip
    write_model(out, {**arrays, LEARNT: np.array(learnt)}, card)
    return out


def test_a_folder_is_evaluated_and_what_cannot_be_is_told(pictures, model, tmp_path):
    found = evaluate_pictures("scene", [pictures], str(model))
    assert (found["n"], found["trained_on"], found["unlabelled"]) == (12, 2, 1)
    assert found["classes"] == list(SCENES)
    assert sum(map(sum, found["confusion"])) == 12
    assert found["labels_without_class"] == {"cats": 1}
    assert list(found["unreadable"]) == [str(pictures / "planets" / "bad.jpg")]
    assert evaluate_pictures("scene", [pictures], str(model), unseen=True, draw=tmp_path / "drawn")["n"] == 10
    assert {one.name for one in (tmp_path / "drawn").iterdir()} == {
        "confusion.png", "mistakes.png", "roc.png", "attribution.png",
    }  # fmt: skip


def test_copies_of_a_picture_are_told_wherever_they_are(pictures, model, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(pictures / "planets", tmp_path / split / "planets")
    shutil.copytree(pictures / "Nebulae", tmp_path / "Nebulae")
    for data, n, copies in (([tmp_path], 12, 4), ([tmp_path, tmp_path], 24, 16), ([pictures], 12, 0)):
        found = evaluate_pictures("scene", data, str(model))
        assert (found["n"], found["copies"]) == (n, copies)
    assert evaluate_anomaly([tmp_path], ["planets"])["copies"] == 4


def test_the_command_says_the_same(pictures, model, tmp_path):
    rows = [f"{path},{path.parent.name}" for path in sorted(pictures.glob("*/*.png"))]
    (tmp_path / "table.csv").write_text("\n".join(["location,label", *rows]))
    for data in (pictures, tmp_path / "table.csv"):
        result = CliRunner().invoke(app, ["evaluate", "scene", "--data", str(data), "--model", str(model), "--json"])
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout.splitlines()[-1])
        assert (said["n"], said["accuracy"]) == (12, evaluate_pictures("scene", [pictures], str(model))["accuracy"])


def test_no_label_of_the_task_is_refused(pictures, model, tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.png").write_bytes((pictures / "cats" / "1.png").read_bytes())
    with pytest.raises(BadInput, match=r"no readable picture with a label of .*; labels are \['cats'\]\."):
        evaluate_pictures("scene", [tmp_path], str(model))


def test_why_no_picture_can_be_judged_is_told(pictures, model, tmp_path):
    def refused(*rows, unseen=False):
        (tmp_path / "t.csv").write_text("\n".join(["location,label", *rows]))
        with pytest.raises(BadInput) as error:
            evaluate_pictures("scene", [tmp_path / "t.csv"], str(model), unseen=unseen)
        assert error.value.code == "no_labels"
        return error.value.problem, error.value.remedy

    problem, remedy = refused(f"{pictures}/none.png,", "gone.png,")
    assert problem.endswith(": none has a label.")
    assert "nightstride classify" in remedy
    problem, remedy = refused(f"{pictures}/none.png,", "gone.png,planet")
    assert problem.endswith(
        f": 1 cannot be read, the first: {tmp_path}/gone.png: cannot be read: No such file or directory."
    )
    assert remedy == "mend these files."
    problem, remedy = refused(f"{pictures}/planets/0.png,planet", unseen=True)
    assert problem.endswith(" that the model has not learnt from: 1 are left out.")
    assert "--unseen" in remedy


@pytest.mark.parametrize("kind", ["gone", "locked"])
def test_one_file_that_cannot_be_opened_is_told_with_the_others_judged(pictures, model, tmp_path, monkeypatch, kind):
    bad = tmp_path / "bad.png"
    if kind == "locked":
        bad.write_bytes(b"x")
        monkeypatch.setattr("flows.results.evaluation.picture_scores.file_digest", _locked(bad))
    (tmp_path / "t.csv").write_text(f"location,label\n{pictures}/planets/3.png,planet\nbad.png,planet\n")
    found = evaluate_pictures("scene", [tmp_path / "t.csv"], str(model))
    assert found["n"] == 1
    assert list(found["unreadable"]) == [str(bad)]
    assert {"gone": "No such file", "locked": "Permission denied"}[kind] in found["unreadable"][str(bad)]


def test_a_pipe_named_in_a_table_is_told_and_not_waited_for(pictures, model, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "t.csv").write_text(f"location,label\n{pictures}/planets/0.png,planet\npipe.png,planet\n")
    found = evaluate_pictures("scene", [tmp_path / "t.csv"], str(model))
    assert (found["n"], list(found["unreadable"])) == (1, [str(tmp_path / "pipe.png")])
    with pytest.raises(BadInput, match="is a pipe, a socket or a device"):
        read_picture(tmp_path / "pipe.png", 99)


def _locked(path):
    def digest(one):
        if one == path:
            raise PermissionError(13, "Permission denied")
        return file_digest(one)

    return digest


def test_it_tells_how_far_it_has_come(pictures, model, monkeypatch):
    monkeypatch.setattr(picture_scores, "TOLD_EVERY", 4)
    told = []
    found = evaluate_pictures("scene", [pictures], str(model), say=told.append)
    read = found["n"] + len(found["unreadable"])
    assert read >= 4
    assert told == [f"{count} of {read} pictures read" for count in range(4, read + 1, 4)]


def test_of_each_picture_only_what_the_network_sees_is_kept(pictures, model):
    card, arrays = read_weights("scene", str(model))
    net = build_picture_model(card, arrays)
    files = [one for one in list_pictures(pictures) if one.label == "planets"]
    kept = {"seen": partial(shown_picture, card)}
    whole, small = (read_unseen(files, arrays, unseen=False, **more) for more in ({}, kept))
    assert {one.shape for one in small.pictures} == {(3, 32, 32)}
    assert small.paths == whole.paths
    np.testing.assert_array_equal(net(whole.pictures), net.probability(torch.from_numpy(np.stack(small.pictures))))
