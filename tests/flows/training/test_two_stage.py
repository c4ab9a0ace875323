from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flows.pipeline.models import load_model
from flows.training import two_stage
from flows.training.boosted import Examples
from flows.training.candidate_set import CandidateSet, find_on
from flows.training.fits import TreeFit
from flows.training.two_stage import Cutouts, NetFit, TwoStagePlan, fit_net, train_two_stage
from kernels.image.search_image import Places
from kernels.nets.candidate_nets import LINE_CHANNELS, CandidateCnn
from kernels.search.candidate_search import LONG, WIDE, net_logits
from kernels.statistics.matching import Targets


def test_trains_and_writes_a_detector(examples, tmp_path):
    said = []
    plan = TwoStagePlan(TreeFit(trees=20, least=3), NetFit(epochs=2, batch=16), floor=-9.0)
    sets = Examples(examples, examples[1:], examples[1:])
    figures = train_two_stage(tmp_path, sets, plan, {"command": "this test"}, 1, 1, said.append)
    detector = load_model("detect", str(tmp_path))
    assert detector.card.metrics == figures
    assert detector.card.training == {"command": "this test"}
    assert 0 <= detector.card.input["share"] <= 1
    plane = find_on(examples[1]).plane
    rows, columns = (extent // 4 for extent in plane.pixels.shape)
    logits, _ = detector.search(plane, Places(0, 0, rows, columns, 4))
    assert (logits > 0).sum() >= 3


def sample(seed):
    """Bars along the rows, and bars across."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 256)
    pictures = rng.normal(0, 0.3, (256, LINE_CHANNELS, WIDE, LONG))
    pictures[label == 1, :, 11:13, 20:44] += 2
    pictures[label == 0, :, 2:22, 31:33] += 2
    return Cutouts(pictures.astype(np.float16), rng.normal(size=(256, 5)).astype(np.float32), label)


def test_learns_to_tell_a_line_from_what_crosses_it():
    torch.set_num_threads(1)
    said = []
    net = fit_net(sample(1), NetFit(epochs=5, batch=32), 1, said.append)
    fresh = sample(2)
    odds = net_logits(net, fresh.pictures.astype(np.float32), fresh.features, torch.device("cpu"))
    assert ((odds > 0) == fresh.label).mean() > 0.97
    assert len(said) == 5


def test_where_the_network_is_not_asked_trees_alone_decide_and_lie_below():
    tree = np.array([-6.0, -6.5, 2.0], np.float32)
    judged = np.array([4.0, -1.0], np.float32)
    found = two_stage._joined(tree, judged, 0.25, -6.0)
    np.testing.assert_allclose(found, [0.25 * 4 - 0.75 * 6, -16.5, -0.25 + 1.5])


def test_each_exposure_is_judged_by_trees_of_the_other_half(monkeypatch):
    shown = []

    def fit_on(sets, fit, seed, say):
        shown.append(sets)
        return tuple(one.x for one in sets)

    monkeypatch.setattr(two_stage, "fit_on", fit_on)
    monkeypatch.setattr(two_stage, "tree_logits", lambda features, trees: (features, trees))
    sets = [CandidateSet(n, None, n, None, None, None) for n in range(5)]
    found = two_stage._by_the_other_half(sets, TreeFit(), 1, print)
    assert found == [(0, (1, 3)), (1, (0, 2, 4)), (2, (1, 3)), (3, (0, 2, 4)), (4, (1, 3))]


def test_found_streaks_are_counted_at_half_and_at_one_false_per_image():
    kind = np.array(["streak"] * 3)
    targets = Targets(kind, *np.array([[10.0, 50, 90], [10, 50, 90], [0, 0, 0], [0, 0, 0], [1, 1, 1]]))
    x = np.array([10.0, 50, 90, 200, 220, 240])
    one = CandidateSet(x, x.copy(), np.zeros((6, 1), np.float32), np.zeros(6, int), targets, np.array([12.0, 7, 6]))
    score = np.array([5.0, 3.5, 9.0, 4.0, 3.0, 2.0], np.float32)
    # Of two images: one false one, at 4; two, at 4 both. The third streak is too faint to count.
    assert two_stage._found([one, one], [score, score - 0.5], 7.0) == 2 + 3
    assert two_stage._found([one, one], [score, score - 0.5], 6.0) == 4 + 5


def test_streaks_weigh_twice_in_the_loss():
    data = sample(3)
    net = CandidateCnn(5)
    for part in net.parameters():
        torch.nn.init.zeros_(part)
    chosen = np.arange(20)
    share = data.label[:20].mean()
    loss = two_stage._loss(net, data, chosen, np.random.default_rng(1))
    assert loss.item() == pytest.approx(np.log(2) * (1 + share), rel=1e-5)


def test_half_of_the_cutouts_are_mirrored_along_and_half_across():
    data = sample(4)
    seen = []

    def net(pictures, features):
        seen.append(pictures.numpy())
        return pictures.sum((1, 2, 3))

    two_stage._loss(net, data, np.arange(200), np.random.default_rng(1))
    whole = data.pictures[:200].astype(np.float32)
    ways = [whole, whole[:, :, ::-1], whole[..., ::-1], whole[:, :, ::-1, ::-1]]
    same = np.array([(way == seen[0]).all((1, 2, 3)) for way in ways])
    assert same.any(0).all()
    assert (same.sum(1) > 30).all()


@pytest.mark.usefixtures("one_thread")
def test_a_fit_is_decided_by_its_plan_and_its_seed(fit_settings):
    lines, data = [], sample(1)
    part = Cutouts(data.pictures[:90], data.features[:90], data.label[:90])
    net = fit_net(part, NetFit(2, 32, 2e-3, 1e-2), 1, lines.append)
    assert fit_settings == [(2e-3, 1e-2), (2e-3, 4, 0.2)]
    np.testing.assert_allclose(net.mean.numpy(), part.features.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.scale.numpy(), part.features.std(0) + 1e-3, rtol=1e-5)
    assert [line.rpartition(" ")[0] for line in lines] == ["epoch 1 of 2: loss", "epoch 2 of 2: loss"]
    np.testing.assert_allclose([float(line.rpartition(" ")[2]) for line in lines], GOLDEN_LOSS, rtol=2e-3)
    fit_settings.clear()
    fit_net(Cutouts(*(one[:9] for one in part)), NetFit(1, 32), 1, lines.append)
    assert fit_settings[1] == (3e-3, 1, 0.2)


GOLDEN_LOSS = [1.0125, 1.0142]


def test_the_network_learns_from_streaks_and_is_asked_of_what_the_trees_leave(monkeypatch):
    label = np.array([1, 1, 0, 0, 0, -1])
    odds = np.array([-9.0, 3.0, -6.0, -6.5, 2.0, 5.0], np.float32)
    one = SimpleNamespace(label=label, features=np.arange(12.0).reshape(6, 2))
    monkeypatch.setattr(
        two_stage, "_pictures", lambda examples, chosen, workers: [c.astype(np.float16) for c in chosen]
    )
    said, plan = [], TwoStagePlan(floor=-6.0)
    found = two_stage._learnt_from([None] * 2, [one, one], [odds, odds - 9], plan, 1, said.append)
    assert found.pictures.tolist() == [0, 1, 2, 4, 0, 1]
    assert found.label.tolist() == [1, 1, 0, 0, 1, 1]
    assert found.features[:, 0].tolist() == [0, 2, 4, 8, 0, 2]
    assert said == ["cutouts of 6 candidates"]
    monkeypatch.setattr(two_stage, "net_logits", lambda net, pictures, features, device: features[:, 0])
    assert [part.tolist() for part in two_stage._judge(None, [None], [one], [odds], plan, 1)] == [[2, 4, 8, 10]]


def test_weights_of_the_network_from_none_to_all_are_tried():
    assert two_stage._SHARES == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert TwoStagePlan() == TwoStagePlan(TreeFit(300, 0.06, 31, 40, 1.0, 40), NetFit(8, 128, 3e-3, 1e-3), -6.0, 7.0)
