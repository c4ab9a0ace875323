import numpy as np
import pytest
import torch
from scipy.special import logit

from kernels.nets.basic_cnn import BasicCnn
from kernels.nets.region_net import RegionNet
from kernels.nets.streak_net import StreakNet
from kernels.search import detector_weights
from kernels.search.detector_weights import build_detector
from kernels.search.matched_filter_search import MatchedFilterSearch
from kernels.search.region_search import RegionSearch
from schemas.errors import Misconfigured
from schemas.settings import DetectSettings
from schemas.stage import Weights
from tests.support.cards import model_card

SETTINGS = DetectSettings(model="ours", device="cpu", precision="float32")


def card(hit=0.5, **known):
    return model_card(input=known, threshold=hit)


def test_the_matched_filter_begins_at_its_floor():
    made = build_detector(Weights(card(kind="matched_filter"), {"floor": np.array([4.2])}), SETTINGS)
    assert isinstance(made, MatchedFilterSearch)
    assert (made.floor, made.card.input["kind"]) == (4.2, "matched_filter")


def windows(side=None, hit=0.3):
    torch.manual_seed(1)
    arrays = {name: value.numpy() for name, value in BasicCnn(1, side or 26).state_dict().items()}
    known = {"kind": "windows", "bands": 1} if side is None else {"kind": "windows", "bands": 1, "side": side}
    return Weights(card(hit, **known), arrays)


def test_a_network_of_windows_is_built_as_settings_say():
    plain = build_detector(windows(), SETTINGS)
    assert (plain.net.side, plain.precision, plain.screen) == (26, "float32", None)
    assert plain.floor == pytest.approx(logit(0.3))
    assert not plain.net.training
    assert build_detector(windows(side=32), SETTINGS).net.side == 32
    given = SETTINGS.model_copy(update={"threshold": 0.6, "precision": "bfloat16", "batch": 5, "stride": 9})
    changed = build_detector(windows(), given)
    assert (changed.precision, changed.batch, changed.stride) == ("bfloat16", 5, 9)
    assert changed.floor == pytest.approx(logit(0.6))


def test_a_screen_that_comes_with_the_weights_works_at_its_own_level():
    beside = windows()._replace(companion=Weights(card(0.1, threshold=0.2), {}))
    assert build_detector(beside, SETTINGS).screen.level == pytest.approx(logit(0.1))
    assert build_detector(windows(), SETTINGS).screen is None


def test_regions_come_with_their_floor():
    torch.manual_seed(2)
    net = RegionNet(4, (1, 2))
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    made = build_detector(Weights(card(kind="regions", channels=4, dilations=[1, 2], floor=-3.5), arrays), SETTINGS)
    assert isinstance(made, RegionSearch)
    assert made.floor == -3.5
    assert (made.net.channels, made.net.dilations, made.net.training) == (4, (1, 2), False)


def test_a_card_without_a_kind_is_refused():
    plain = windows()
    del plain.card.input["kind"]
    with pytest.raises(Misconfigured, match=r'does not say of what kind. To fix, add "kind" to "input"'):
        build_detector(plain, SETTINGS)


def test_a_kind_of_the_future_is_refused():
    with pytest.raises(Misconfigured, match="of kind 'strings', which neither this version nor an installed package"):
        build_detector(Weights(card(kind="strings"), {}), SETTINGS)


def registered(folder, target, monkeypatch):
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[nightstride.detectors]\nstrings = {target}\n")
    monkeypatch.syspath_prepend(folder)


def test_an_installed_package_builds_the_kinds_that_it_names(tmp_path, monkeypatch):
    (tmp_path / "own_detector.py").write_text(
        "def build(weights, settings, device):\n    return weights.card.name, settings.batch, device.type\n"
    )
    registered(tmp_path, "own_detector:build", monkeypatch)
    given = Weights(card(kind="strings"), {})
    assert build_detector(given, SETTINGS) == (given.card.name, SETTINGS.batch, "cpu")


@pytest.mark.parametrize(("target", "says"), [("nowhere:build", "cannot be loaded"), ("math:pi", "is float, no")])
def test_an_entry_point_that_builds_nothing_is_named(tmp_path, monkeypatch, target, says):
    registered(tmp_path, target, monkeypatch)
    with pytest.raises(Misconfigured, match=f"entry point 'strings' of nightstride.detectors: {says}"):
        build_detector(Weights(card(kind="strings"), {}), SETTINGS)


@pytest.mark.parametrize(("linear", "tiles"), [(True, True), (True, False), (False, False)])
def test_bfloat16_is_chosen_where_it_is_fast(linear, tiles, monkeypatch):
    monkeypatch.setattr(detector_weights, "has_bfloat16", lambda: linear)
    monkeypatch.setattr(detector_weights, "convolves_bfloat16", lambda: tiles)
    auto = SETTINGS.model_copy(update={"precision": "auto"})
    assert build_detector(windows(), auto).precision == ("bfloat16" if linear else "float32")
    arrays = {name: value.numpy() for name, value in StreakNet(4, (1, 2)).state_dict().items()}
    cells = Weights(card(kind="cells", channels=4, dilations=[1, 2]), arrays)
    assert build_detector(cells, auto).precision == ("bfloat16" if tiles else "float32")
    assert detector_weights._precision("auto", torch.device("cuda"), lambda: False) == "bfloat16"
    for wanted in ("float32", "bfloat16"):
        for where in ("cuda", "cpu"):
            assert detector_weights._precision(wanted, torch.device(where), lambda: True) == wanted


def test_a_screen_works_on_the_processor_alone():
    beside = windows()._replace(companion=Weights(card(0.1), {}))
    assert detector_weights._window_scorer(beside, SETTINGS, torch.device("cpu")).screen is not None
    assert detector_weights._window_scorer(beside, SETTINGS, torch.device("meta")).screen is None


def test_cells_come_in_the_precision_that_is_asked():
    torch.manual_seed(2)
    arrays = {name: value.numpy() for name, value in StreakNet(4, (1, 2)).state_dict().items()}
    given = Weights(card(kind="cells", channels=4, dilations=[1, 2]), arrays)
    for precision in ("float32", "bfloat16"):
        made = build_detector(given, SETTINGS.model_copy(update={"precision": precision}))
        assert made.precision == precision
        assert (made.net.channels, made.net.dilations, made.net.training) == (4, (1, 2), False)
