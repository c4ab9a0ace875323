import numpy as np
import pytest
import torch
from scipy.special import logit

from flows.pipeline.models import load_model, model_digests, model_name, models_of, require_weights
from flows.pipeline.weights import find_screen, read_card, read_weights, write_model
from flows.training.detect import write_matched_filter
from kernels.image.search_image import Places, SearchImage
from kernels.measure.reliability import STAMP_CHANNELS, STAMP_SIDE
from kernels.measure.reliability_net import TREES, build_reliability, kind_shares
from kernels.nets.reliability_cnn import ReliabilityCnn
from kernels.search.dense_search import DenseSearch, dense_grid
from kernels.search.detector import WindowScorer
from kernels.search.detector_weights import build_detector
from kernels.search.linear_chain import convolves_bfloat16, has_bfloat16
from kernels.search.matched_filter_search import CANDIDATE_GRID
from schemas.dia_source import FEATURES
from schemas.errors import Misconfigured
from schemas.pixels import SearchGrid
from schemas.settings import DetectSettings, MeasureSettings, Settings
from schemas.stage import Weights
from stages import PIPELINE
from tests.support.models import CARD, one_leaf, write_cells, write_reliability, write_screen, write_windows

DETECT, MERGE, MEASURE = (
    next(stage for stage in PIPELINE if stage.name == name) for name in ("detect", "merge", "measure")
)
SHIPPED = Settings(detect=DetectSettings(model="basic_cnn"))


def copied(folder, **changes):
    """Put the shipped network into a folder, with another card."""
    card, arrays = read_weights("detect", "basic_cnn")
    write_model(folder, arrays, card.model_dump() | changes)
    return Settings(detect=DetectSettings(model=str(folder)))


def test_another_threshold_or_other_weights_are_another_model(tmp_path):
    same = copied(tmp_path / "same")
    assert model_digests([DETECT], same) == model_digests([DETECT], copied(tmp_path / "again"))
    assert model_digests([DETECT], same) != model_digests([DETECT], SHIPPED), "which has a screen"
    assert model_digests([DETECT], copied(tmp_path / "threshold", threshold=0.7)) != model_digests([DETECT], same)
    assert model_digests([DETECT], copied(tmp_path / "version", version="2")) != model_digests([DETECT], same)
    assert model_digests([MERGE], SHIPPED) == {}


def test_a_model_that_changes_in_its_folder_is_loaded_again(tmp_path):
    before = models_of(DETECT, copied(tmp_path))["detect"]
    after = models_of(DETECT, copied(tmp_path, threshold=0.9))["detect"]
    assert (before.card.threshold, after.card.threshold) == (0.5, 0.9)


def test_with_a_screen_the_search_is_another_model_and_so_it_is_with_another_screen(tmp_path):
    settings, card = copied(tmp_path), read_card("detect", "basic_cnn")
    lower = Settings(detect=settings.detect.model_copy(update={"threshold": 0.4}))
    plain, loaded = model_digests([DETECT], settings), models_of(DETECT, settings)["detect"]
    assert loaded.screen is None
    write_screen(tmp_path, card.sha256, level=0.3)
    first, loaded = model_digests([DETECT], settings), models_of(DETECT, settings)["detect"]
    assert first != plain == model_digests([DETECT], lower)
    assert models_of(DETECT, lower)["detect"].screen is None
    write_screen(tmp_path, card.sha256, level=0.2)
    assert model_digests([DETECT], settings) not in (first, plain)
    assert models_of(DETECT, settings)["detect"].screen.level < loaded.screen.level


def test_each_stage_gets_its_models_loaded_once(tmp_path):
    write_cells(tmp_path)
    write_reliability(tmp_path)
    settings, others = (Settings(detect=DetectSettings(model=str(tmp_path), batch=batch)) for batch in (1024, 7))
    assert models_of(MERGE, settings) == {}
    first, second = models_of(MEASURE, settings), models_of(MEASURE, others)
    assert first.keys() == {"reliability"}
    assert first["reliability"] is second["reliability"]
    assert models_of(DETECT, settings)["detect"] is models_of(DETECT, settings)["detect"]
    assert models_of(DETECT, settings)["detect"].card.stage == "detect"


def test_the_verdict_is_the_detectors_own_unless_another_is_named():
    detect = DetectSettings(model="somewhere")
    assert model_name("reliability", Settings(detect=detect)) == "somewhere"
    assert model_name("detect", Settings(detect=detect, measure=MeasureSettings(model="other"))) == "somewhere"
    assert model_name("reliability", Settings(detect=detect, measure=MeasureSettings(model="other"))) == "other"


def test_a_model_that_is_not_there_is_named():
    settings = Settings(detect=DetectSettings(model="no_such"))
    with pytest.raises(Misconfigured, match="no_such"):
        model_digests(PIPELINE, settings)
    with pytest.raises(Misconfigured, match="no_such"):
        models_of(DETECT, settings)


def test_an_unknown_model_is_refused_and_never_taken_for_another():
    for call in (lambda: load_model("reliabilty", "streak_net"), lambda: model_name("screen", Settings())):
        with pytest.raises(Misconfigured, match=r"is used by no stage of the pipeline. To fix, (write|choose)"):
            call()


def test_stars_and_galaxies_have_a_model_of_their_own():
    assert model_name("star_galaxy", Settings()) == "multi_band"
    other = Settings.model_validate({"star_galaxy": {"model": "folder"}})
    assert model_name("star_galaxy", other) == "folder"


@pytest.fixture
def plane():
    pixels = np.random.default_rng(1).normal(0, 2, (60, 80)).astype(np.float32)
    return SearchImage(pixels, np.ones(pixels.shape, bool), 0.0, 2.0, np.ones((1, 1)), 2.2)


def test_a_card_of_windows_makes_a_window_scorer(tmp_path, plane):
    card = write_windows(tmp_path, threshold=0.3)
    detector = load_model("detect", str(tmp_path), threshold=0.2, stride=9, precision="float32")
    assert isinstance(detector, WindowScorer)
    assert detector.card == card
    assert detector.grid == SearchGrid(26, 9, 0, 26)
    assert detector.floor == pytest.approx(logit(0.2))
    assert load_model("detect", str(tmp_path)).floor == pytest.approx(logit(0.3))
    automatic = load_model("detect", str(tmp_path), precision="auto").precision
    assert automatic == ("bfloat16" if has_bfloat16() else "float32")
    assert np.isfinite(detector.search(plane, Places(0, 0, 4, 7, 9))[0]).all()


def test_a_card_of_cells_makes_a_dense_search(tmp_path, plane):
    card = write_cells(tmp_path, dilations=(1, 2), channels=12)
    detector = load_model("detect", str(tmp_path))
    assert isinstance(detector, DenseSearch)
    assert not detector.net.training
    assert detector.card == card
    assert detector.grid == dense_grid(4) == SearchGrid(**card.input["grid"])
    _, arrays = read_weights("detect", str(tmp_path))
    assert arrays.keys() == detector.net.state_dict().keys()
    for name, value in detector.net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), arrays[name])
    assert np.isfinite(detector.search(plane, Places(0, 0, 15, 20, 4))[0]).all()
    automatic = load_model("detect", str(tmp_path), precision="auto").precision
    assert automatic == ("bfloat16" if convolves_bfloat16() else "float32")


def test_cells_have_no_screen(tmp_path):
    write_screen(tmp_path, write_cells(tmp_path).sha256)
    assert find_screen(str(tmp_path), None) is None
    assert isinstance(load_model("detect", str(tmp_path)), DenseSearch)


def test_weights_of_another_network_are_named_with_what_is_missing(tmp_path):
    card = {"stage": "detect", "input": {"kind": "windows", "bands": 1, "side": 26}, "threshold": 0.5}
    write_model(tmp_path, {"a": np.zeros(2, np.float32)}, CARD | card)
    with pytest.raises(
        Misconfigured, match=r"detect: cannot be built: RuntimeError: .*Missing key.*conv1.weight.* To fix"
    ):
        load_model("detect", str(tmp_path))


def test_a_kind_of_the_future_is_refused(tmp_path):
    card = write_cells(tmp_path)
    card = card.model_copy(update={"input": card.input | {"kind": "strings"}})
    with pytest.raises(
        Misconfigured, match=r"is a detector of kind 'strings', which neither this version nor an installed package"
    ):
        build_detector(Weights(card, {}), DetectSettings(model="folder"))


def test_a_matched_filter_made_of_its_files_searches(tmp_path):
    written = write_matched_filter(tmp_path)
    detector = load_model("detect", str(tmp_path))
    assert (detector.grid, detector.card) == (CANDIDATE_GRID, written)
    image = np.zeros((120, 120), np.float32)
    image[58:61, 60:63] = 12
    plane = SearchImage(image, np.ones(image.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    logits, _ = detector.search(plane, Places(0, 0, 30, 30, 4))
    assert np.isfinite(logits).sum() >= 1


@pytest.mark.parametrize("known", [{"centred": True}, {}])
def test_members_and_calibration_come_back(tmp_path, known):
    nets = []
    for seed in range(2):
        torch.manual_seed(seed)
        nets.append(ReliabilityCnn(len(FEATURES), centred=bool(known)).eval())
    arrays = {f"{n}.{name}": value.numpy() for n, net in enumerate(nets) for name, value in net.state_dict().items()}
    arrays |= {f"{TREES}{name}": value for name, value in one_leaf(0.75)._asdict().items()}
    given = {"stage": "reliability", "input": {"features": list(FEATURES)}, "threshold": 0.4}
    given["input"] |= {"networks": 2, "stamps": [STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE]} | known
    card = write_model(tmp_path, arrays, CARD | given | {"calibration": {"slope": 0.5, "offset": 1.5}})
    verdict = build_reliability(Weights(card, arrays))
    assert (verdict.slope, verdict.offset, verdict.card) == (0.5, 1.5, card)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, len(FEATURES))).astype(np.float32)
    stamps = rng.normal(size=(5, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE)).astype(np.float32)
    with torch.no_grad():
        odds = sum(net(torch.from_numpy(stamps), torch.from_numpy(features)).numpy() for net in nets) / 2
    odds = (odds + 0.75) / 2
    np.testing.assert_allclose(verdict.log_odds(features, stamps), odds, atol=1e-5)
    np.testing.assert_array_equal(load_model("reliability", str(tmp_path))(features, stamps), verdict(features, stamps))


def test_a_verdict_looks_at_the_measurements_that_it_has_learnt_from(tmp_path):
    """In their own order, whatever is measured since."""
    own, rng = (*FEATURES[4:], FEATURES[1]), np.random.default_rng(0)
    net = ReliabilityCnn(len(own)).eval()
    arrays = {f"0.{name}": value.numpy() for name, value in net.state_dict().items()}
    arrays |= {f"{TREES}{name}": value for name, value in one_leaf(0.75)._asdict().items()}
    kinds = {"mean": np.zeros(len(own)), "scale": np.ones(len(own)), "weight": rng.normal(size=(3, len(own)))}
    arrays |= {f"kinds.{name}": value for name, value in (kinds | {"bias": np.zeros(3)}).items()}
    given = {"features": list(own), "networks": 1, "stamps": [STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE], "centred": True}
    known = {"stage": "reliability", "input": given, "threshold": 0.4}
    card = write_model(tmp_path, arrays, CARD | known | {"calibration": {"slope": 1.0, "offset": 0.0}})
    verdict = build_reliability(Weights(card, arrays))
    features = rng.normal(size=(3, len(FEATURES))).astype(np.float32)
    stamps = rng.normal(size=(3, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE)).astype(np.float32)
    columns = (*range(4, len(FEATURES)), 1)
    seen = features[:, list(columns)]
    with torch.no_grad():
        odds = (net(torch.from_numpy(stamps), torch.from_numpy(seen)).numpy() + 0.75) / 2
    np.testing.assert_allclose(verdict.log_odds(features, stamps), odds, atol=1e-5)
    shares = kind_shares(features, verdict.kinds, columns)
    np.testing.assert_allclose(verdict.classes(features, np.ones(3))[:, :3], shares, atol=1e-6)


def test_more_than_ten_members_are_told_apart(tmp_path):
    write_reliability(tmp_path, networks=11)
    assert len(load_model("reliability", str(tmp_path)).nets) == 11


def test_weights_are_checked_before_they_are_used(tmp_path):
    settings = copied(tmp_path)
    require_weights([DETECT], settings)
    path = tmp_path / "detect.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Misconfigured, match=r"sha256 is .* but its card says"):
        require_weights([DETECT], settings)
    path.unlink()
    with pytest.raises(Misconfigured, match="the weights of this model are missing"):
        require_weights([DETECT], settings)
    require_weights([MERGE], settings)


def test_a_reliability_model_copied_beside_another_detector_is_refused(tmp_path):
    settings, own = copied(tmp_path), read_card("detect", "basic_cnn").sha256
    write_reliability(tmp_path, detector_sha256=own)
    model_digests([MEASURE], settings)
    write_reliability(tmp_path, detector_sha256="0" * 64)
    with pytest.raises(Misconfigured, match="was trained on the candidates of the detector 000000000000") as error:
        model_digests([MEASURE], settings)
    assert error.value.code == "other_detector"
    write_reliability(tmp_path / "elsewhere", detector_sha256="0" * 64)
    chosen = settings.model_copy(update={"measure": MeasureSettings(model=str(tmp_path / "elsewhere"))})
    model_digests([MEASURE], chosen)  # on purpose
