import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
import torch

from flows.pipeline import weights
from flows.pipeline.models import load_model
from flows.pipeline.weights import find_screen, read_card, read_weights, write_model
from kernels.image.search_image import Places, SearchImage
from kernels.measure.reliability import STAMP_CHANNELS, STAMP_SIDE
from kernels.nets.basic_cnn import BasicCnn
from schemas.dia_source import FEATURES
from schemas.errors import Misconfigured, Retryable
from tests.support.models import write_reliability, write_screen
from tests.support.torch_nets import messy_image

CARD = {
    "stage": "detect", "name": "test", "version": "1", "input": {"kind": "windows", "bands": 1, "side": 26},
    "classes": ("nothing", "asteroid"), "training": {"seed": 0}, "metrics": {}, "threshold": 0.5,
    "false_alarm_rate": "not set",
}  # fmt: skip


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(1)
    net = BasicCnn().eval()
    write_model(tmp_path, {key: value.numpy() for key, value in net.state_dict().items()}, CARD)
    return tmp_path, net


def test_round_trip(model):
    folder, net = model
    windows = np.random.default_rng(0).normal(size=(4, 1, 26, 26)).astype(np.float32)
    loaded = load_model("detect", str(folder))
    with torch.no_grad():
        scores = net(torch.from_numpy(windows)).numpy()
    np.testing.assert_array_equal(loaded(windows), scores[:, 1] - scores[:, 0])
    assert loaded.card.name == "test"


def test_a_card_that_lacks_a_field_is_refused_in_our_words_and_nothing_is_written(tmp_path):
    given = {name: value for name, value in CARD.items() if name != "threshold"} | {"version": 1}
    with pytest.raises(
        Misconfigured, match=r"is not a model card: version: .*; threshold: Field required.*To fix, corr"
    ):
        write_model(tmp_path / "mine", {"a": np.zeros(1, np.float32)}, given)
    assert not (tmp_path / "mine").exists()


def test_weights_with_nan_are_neither_written_nor_read(model):
    folder, _ = model
    arrays = {"a": np.ones(2, np.float32), "b": np.array([1, np.nan, np.nan], np.float16), "n": np.arange(2)}
    with pytest.raises(Misconfigured, match="weights 'b' hold 2 NaN of 3 values"):
        write_model(folder / "mine", arrays, CARD)
    assert not (folder / "mine").exists()
    data = safetensors.numpy.save(arrays)
    (folder / "detect.safetensors").write_bytes(data)
    card = json.loads((folder / "detect.json").read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
    (folder / "detect.json").write_text(json.dumps(card))
    with pytest.raises(Misconfigured, match="weights 'b' hold 2 NaN of 3 values"):
        load_model("detect", str(folder))
    write_model(folder / "rows", arrays, CARD | {"stage": "superclass"})  # rows of a catalogue may lack a value


def test_where_nothing_can_be_written_is_said_in_our_words(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(Misconfigured, match="mine: could not be written: File exists"):
        write_model(tmp_path / "mine", {"a": np.zeros(1, np.float32)}, CARD)


def test_who_has_a_detector_without_a_verdict_is_told_how_to_train_it(model):
    with pytest.raises(Misconfigured, match=f"train detect --model {model[0]} --reliability-only --out {model[0]}"):
        read_card("reliability", str(model[0]))
    with pytest.raises(Misconfigured, match=r"name a folder that holds nowhere.json\.$"):
        read_card("nowhere", str(model[0]))


def test_url_of_a_folder(model):
    folder, _ = model
    assert read_card("detect", f"file://{folder}") == read_card("detect", str(folder))


def test_weights_that_are_not_the_cards_are_refused(model):
    folder, _ = model
    path = folder / "detect.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(Misconfigured, match=r"sha256 is .* but its card says .* To fix, restore"):
        read_weights("detect", str(folder))


def test_missing_weights(model):
    folder, _ = model
    (folder / "detect.safetensors").unlink()
    with pytest.raises(Misconfigured, match="weights of this model are missing"):
        load_model("detect", str(folder))


def test_unknown_name_lists_what_there_is():
    with pytest.raises(Misconfigured, match="there is no model 'nonsense' for stage 'detect'"):
        read_card("detect", "nonsense")


def test_card_with_unknown_field_is_refused(model):
    folder, _ = model
    path = folder / "detect.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))
    with pytest.raises(Misconfigured, match=r"is not a model card: .*surprise"):
        read_card("detect", str(folder))


@pytest.mark.parametrize(
    ("text", "says"), [("", "card: Invalid JSON"), ('{"stage": "detect"}', "card: name: Field req")]
)
def test_a_card_that_cannot_be_read_says_why(model, text, says):
    folder, _ = model
    (folder / "detect.json").write_text(text)
    with pytest.raises(Misconfigured, match=f"is not a model {says}"):
        read_card("detect", str(folder))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{folder}/detect.json", "Not a directory"),
        ("{folder}/folders", "Is a directory"),
        ("nonsense://{folder}", "Protocol not known: nonsense"),
    ],
)
def test_a_model_that_cannot_be_read_is_named(model, name, says):
    folder, _ = model
    for suffix in ("json", "safetensors"):
        (folder / f"folders/detect.{suffix}").mkdir(parents=True)
    with pytest.raises(Misconfigured, match=rf"detect\.json: cannot be read: {says}\. To fix, name a") as caught:
        read_card("detect", name.format(folder=folder))
    assert caught.value.code == "unreadable_model"
    (folder / "detect.safetensors").unlink()
    (folder / "detect.safetensors").mkdir()
    with pytest.raises(Misconfigured, match=r"detect\.safetensors: cannot be read: Is a directory\."):
        read_weights("detect", str(folder))


def test_a_model_that_cannot_be_reached_may_be_tried_again(model, monkeypatch):
    def late(*given, **options):
        raise TimeoutError("timed out")

    monkeypatch.setattr(weights.fsspec, "open", late)
    with pytest.raises(
        Retryable, match=r"detect\.json: cannot be read: timed out\. To fix, see that it can be reached"
    ):
        read_card("detect", str(model[0]))


def test_card_of_another_stage_is_refused(model):
    folder, _ = model
    for suffix in ("json", "safetensors"):
        (folder / f"detect.{suffix}").rename(folder / f"reliability.{suffix}")
    with pytest.raises(Misconfigured, match="is a model for stage 'detect', not 'reliability'"):
        read_card("reliability", str(folder))


def test_verdict_is_what_was_written(tmp_path):
    card = write_reliability(tmp_path, gain=4.0, offset=-2.0)
    features = np.random.default_rng(4).random((7, len(FEATURES))).astype(np.float32)
    loaded = load_model("reliability", str(tmp_path))
    odds = 4 * features[:, FEATURES.index("log_snr")] - 2
    found = loaded(features, np.ones((7, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE), np.float32))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-odds)), rtol=1e-5)
    assert loaded.card == card


@pytest.mark.parametrize("features", [[*FEATURES[:-1], "gone"], []])
def test_verdict_of_another_version_is_refused(tmp_path, features):
    write_reliability(tmp_path, features=features)
    with pytest.raises(Misconfigured, match=r"was trained on the features .* To fix, train it again"):
        load_model("reliability", str(tmp_path))


def test_a_screen_is_found_beside_its_network_and_used(model):
    folder, _ = model
    assert find_screen(str(folder), None) is None
    assert load_model("detect", str(folder)).screen is None
    write_screen(folder, read_card("detect", str(folder)).sha256, level=0.25)
    assert find_screen(str(folder), None) == read_card("screen", str(folder))
    screen = load_model("detect", str(folder)).screen
    assert screen.level == pytest.approx(np.log(0.25 / 0.75))
    assert [layer.weight.shape for layer in screen.layers] == [(4, 12), (1, 4)]


def test_a_screen_of_other_weights_is_not_used(model):
    folder, _ = model
    write_screen(folder, "0" * 64)
    assert find_screen(str(folder), None) is None
    assert load_model("detect", str(folder)).screen is None


def test_a_screen_works_at_its_threshold_and_above(model):
    folder, _ = model
    write_screen(folder, read_card("detect", str(folder)).sha256)
    assert load_model("detect", str(folder), threshold=0.9).screen is not None
    assert load_model("detect", str(folder), threshold=0.3).screen is None


def test_a_screen_works_on_the_processor_only(model, monkeypatch):
    folder, _ = model
    write_screen(folder, read_card("detect", str(folder)).sha256)
    elsewhere = torch.device("meta")
    monkeypatch.setattr("kernels.search.detector_weights.choose_device", lambda wanted: elsewhere)
    assert load_model("detect", str(folder), device="cuda").screen is None
    assert find_screen(str(folder), None) is not None  # what is found does not depend on the device


def test_a_screen_whose_card_cannot_be_read_is_no_reason_to_search_without(model):
    folder, _ = model
    (folder / "screen.json").write_text("{}")
    with pytest.raises(Misconfigured, match="is not a model card"):
        load_model("detect", str(folder))


def test_the_shipped_screen_belongs_to_the_shipped_network():
    scorer = load_model("detect", "basic_cnn")
    assert find_screen("basic_cnn", None).input["detect_sha256"] == scorer.card.sha256
    assert scorer.screen.level < 0
    assert scorer.windows.screen is scorer.screen


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", ["streak_net", "basic_cnn", "region_proposal"])
def test_shipped_detectors_score_the_same_on_a_gpu(name):
    image, usable, background = messy_image((400, 420))
    plane = SearchImage(np.where(usable, image[0], 0), usable, background, 5.0, np.ones((1, 1)), 2.5)
    ours, theirs = (load_model("detect", name, device=device) for device in ("cpu", "cuda"))
    size, stride = ours.grid.window, ours.grid.stride
    places = Places(0, 0, (400 - size) // stride + 1, (420 - size) // stride + 1, stride)
    (here, unscored), (there, others) = (each.search(plane, places) for each in (ours, theirs))
    assert unscored == others
    assert np.array_equal(np.isfinite(here), np.isfinite(there))
    scored = np.isfinite(here)
    np.testing.assert_allclose(there[scored], here[scored], atol=2e-3)
