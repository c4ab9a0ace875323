import numpy as np
import torch

from kernels.candidate_judges import TreeJudge, TwoStageJudge, lines_of, net_logits
from kernels.candidate_search import find_candidates
from kernels.line_cutouts import CHANNELS, LONG, WIDE
from kernels.nets.candidate_cnn import CandidateCnn
from kernels.plane import Plane
from kernels.shape_features import FEATURES, shape_features
from kernels.tree_ensemble import TreeEnsemble, tree_logits

TREES = TreeEnsemble(
    np.array([0], np.int32),
    np.array([2, -1, -1], np.int16),
    np.array([4.5, 0, 0]),
    np.array([1, 0, 0], np.int32),
    np.array([2, 0, 0], np.int32),
    np.array([0, -8.0, 3.0]),
    np.zeros(1),
)
CPU = torch.device("cpu")


def network():
    torch.manual_seed(1)
    return CandidateCnn(len(FEATURES)).eval()


def candidates():
    image = np.random.default_rng(1).normal(size=(300, 300)).astype(np.float32)
    plane = Plane(image, np.ones(image.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    return plane, *find_candidates(plane, 3.8)


def test_trees_judge_the_shape():
    plane, snr, peaks = candidates()
    features = shape_features(plane, snr, peaks, lines_of(plane, snr, peaks))
    np.testing.assert_array_equal(TreeJudge(TREES)(plane, snr, peaks), tree_logits(features, TREES))


def test_the_network_is_asked_where_the_trees_doubt():
    plane, snr, peaks = candidates()
    trees = TreeJudge(TREES)(plane, snr, peaks)
    asked = trees >= 0
    assert 0 < asked.sum() < len(asked)
    half = TwoStageJudge(TREES, 0.0, network(), 0.5, CPU)(plane, snr, peaks)
    alone = TwoStageJudge(TREES, 0.0, network(), 1.0, CPU)(plane, snr, peaks)
    np.testing.assert_array_equal(half[~asked], trees[~asked] - 10)
    np.testing.assert_allclose(half[asked], (alone[asked] + trees[asked]) / 2, rtol=1e-6)
    assert half[~asked].max() < half[asked].min()


def test_scores_do_not_depend_on_what_else_is_asked():
    rng = np.random.default_rng(2)
    pictures = rng.normal(size=(150, CHANNELS, WIDE, LONG)).astype(np.float32)
    features = rng.normal(size=(150, len(FEATURES))).astype(np.float32)
    net = network()
    whole = net_logits(net, pictures, features, CPU)
    for part in (np.s_[3:4], np.s_[60:131], np.s_[149:150]):
        np.testing.assert_array_equal(net_logits(net, pictures[part], features[part], CPU), whole[part])
