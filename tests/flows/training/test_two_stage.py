import numpy as np
import torch

from flows.pipeline.models import load_model
from flows.training.boosted import Examples
from flows.training.candidate_set import find_on
from flows.training.fits import TreeFit
from flows.training.two_stage import Cutouts, NetFit, TwoStagePlan, fit_net, train_two_stage
from kernels.image.search_image import Places
from kernels.nets.candidate_nets import LINE_CHANNELS
from kernels.search.candidate_search import LONG, WIDE, net_logits


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
