"""The examples of own_model.md work: packages with a network, its weights, and a detector of a known architecture."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_weights, write_model
from kernels.image.search_image import Places, SearchImage
from schemas.dia_source import DIA_SOURCE
from schemas.stage import Context, Weights
from tests.support.association import detections

PAGE = Path(__file__).parents[2] / "docs/use/own_model.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
DETECTOR, SEARCHES, PACKAGE, WEIGHTS, _ = BLOCKS
POINT = re.compile(r'^\[project.entry-points."nightstride.detectors"\]\n(.*) = "(.*)"$', re.MULTILINE)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the package defines; its weights lie in the folder."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_package").mkdir()
    (folder / "my_package/__init__.py").touch()
    (folder / "my_package/second_look.py").write_text(PACKAGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "my_package", raising=False)
        torch.manual_seed(5)
        exec(compile(WEIGHTS, str(PAGE), "exec"), {})
        exec(compile(DETECTOR, str(PAGE), "exec"), {})
        yield vars(sys.modules["my_package.second_look"]) | {"folder": folder}


def test_the_detector_is_one(names):
    detector = load_model("detect", str(names["folder"] / "models/mine"))
    assert detector.card.name == "mine"
    assert detector(np.zeros((3, 1, 26, 26), np.float32)).shape == (3,)


def test_a_network_of_its_own_searches_once_its_package_names_it(names, tmp_path, monkeypatch):
    (tmp_path / "my_detector.py").write_text(SEARCHES)
    info = tmp_path / "my_detector-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-detector\nVersion: 1\n")
    points = POINT.search(PAGE.read_text())
    (info / "entry_points.txt").write_text(f"[nightstride.detectors]\n{points[1]} = {points[2]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    from my_detector import network

    net = network().eval()
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    scope = {}
    exec(compile(DETECTOR.partition("write_model(")[0].replace("from flows", "#"), str(PAGE), "exec"), scope)
    card = scope["card"] | {"input": {"kind": points[1], "bands": 1, "side": 26}}
    write_model(tmp_path / "mine", arrays, card)
    detector = load_model("detect", str(tmp_path / "mine"), stride=13)
    image = np.random.default_rng(2).normal(0, 1, (60, 80)).astype(np.float32)
    plane = SearchImage(image, np.ones(image.shape, bool), 0.0, 1.0, np.ones((1, 1)), 2.2)
    logits, unscored = detector.search(plane, Places(0, 0, 3, 5, 13))
    window = image[13:39, 26:52]
    with torch.inference_mode():
        scores = net(torch.from_numpy(((window - window.mean()) / window.std())[None, None]))[0]
    assert (len(logits), unscored) == (15, 0)
    assert logits[5 + 2] == pytest.approx(float(scores[1] - scores[0]), abs=1e-4)


def test_the_stage_scores_the_stamp_of_each_detection(names):
    stage, side = names["STAGE"], names["SIDE"]
    weights = Weights(*read_weights("second_look", str(names["folder"] / "models/second_look")))
    model = names["build"](weights, names["SecondLookSettings"]())
    image = np.random.default_rng(2).normal(0, 1, (90, 120)).astype(np.float32)
    x, y = [60.2, 3.0, 119.0], [40.4, 2.0, 89.0]
    found = detections(7, [150.0, 150.1, 150.2], [2.0, 2.1, 2.2], x=np.array(x), y=np.array(y))
    rows = stage({"dia_source": found, "difference": image}, Context(models={"second_look": model})).rows

    assert rows["diaSourceId"].to_pylist() == found["diaSourceId"].to_pylist()
    net = names["network"]().eval()
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.arrays.items()})
    stamp = image[40 - side // 2 : 40 + side // 2, 60 - side // 2 : 60 + side // 2]
    with torch.inference_mode():
        expected = torch.sigmoid(net(torch.from_numpy(stamp[None, None].copy())))[0, 0].item()
    assert rows["score"][0].as_py() == pytest.approx(expected, rel=1e-5)


def test_it_has_nothing_to_say_where_nothing_was_found(names):
    model = names["build"](
        Weights(*read_weights("second_look", str(names["folder"] / "models/second_look"))),
        names["SecondLookSettings"](),
    )
    given = {"dia_source": DIA_SOURCE.empty(), "difference": np.zeros((60, 60), np.float32)}
    assert len(names["STAGE"](given, Context(models={"second_look": model})).rows) == 0
