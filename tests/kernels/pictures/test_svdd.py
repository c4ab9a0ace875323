import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import nn

from kernels.pictures.anomaly_model import VERDICTS, code_scale, nearest_distance
from kernels.pictures.svdd import FILTERS, SvddDecoder, SvddEncoder, contrast_normalised


def test_the_encoder_has_the_published_layers_and_no_bias():
    net = SvddEncoder()
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [2, 4, 8, 16, 32, 64] == list(FILTERS)
    assert {(layer.kernel_size, layer.padding) for layer in convolutions} == {((5, 5), (2, 2))}
    assert [layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear)] == [256, 64]
    assert not [name for name, _ in net.named_parameters() if "bias" in name]
    filters = 25 * (1 * 2 + 2 * 4 + 4 * 8 + 8 * 16 + 16 * 32 + 32 * 64)
    assert sum(value.numel() for value in net.parameters()) == filters + 64 * 16 * 256 + 256 * 64


def test_the_decoder_gives_back_a_picture_of_the_same_form():
    pictures = torch.rand(2, 1, 64, 64)
    back = SvddDecoder(64)(SvddEncoder(64)(pictures))
    assert back.shape == pictures.shape
    assert ((back >= 0) & (back <= 1)).all()


def test_the_decoder_has_no_bias_and_no_norm_behind_its_last_layer():
    net = SvddDecoder()
    assert not [name for name, _ in net.named_parameters() if "bias" in name]
    filters = 25 * (64 * 32 + 32 * 16 + 16 * 8 + 8 * 4 + 4 * 2 + 2 * 1)
    assert sum(value.numel() for value in net.parameters()) == filters + 256 * 64 + 64 * 16 * 256
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()) == 5
    assert [type(layer) for layer in list(net.maps)[-2:]] == [nn.Conv2d, nn.Sigmoid]


def test_contrast_does_not_depend_on_brightness_and_scale():
    pictures = torch.rand(3, 3, 32, 32) * 100
    seen = contrast_normalised(pictures)
    assert seen.shape == (3, 1, 32, 32)
    assert torch.allclose(seen, contrast_normalised(pictures * 2 + 17), atol=1e-5)
    assert torch.isfinite(contrast_normalised(torch.zeros(1, 3, 32, 32))).all(), "an empty picture is one, too"


def test_distance_is_that_to_the_five_nearest_by_another_library():
    rng = np.random.default_rng(3)
    normal, codes = rng.normal(size=(60, 7)).astype(np.float32), rng.normal(size=(20, 7)).astype(np.float32)
    middle, spread = code_scale(normal, 2)
    reference = (normal - middle) / spread
    theirs = cKDTree(reference).query((codes - middle) / spread, k=5)[0].mean(1)
    assert nearest_distance(codes, reference, middle, spread) == pytest.approx(theirs, rel=1e-3)


def test_the_last_codes_count_as_much_as_all_others():
    width = np.array([3] * 8 + [9, 0.1], np.float32)
    codes = np.random.default_rng(1).normal(size=(4000, 10)).astype(np.float32) * width
    middle, spread = code_scale(codes, 2)
    scaled = (codes - middle) / spread
    assert (scaled[:, -2:] ** 2).sum() == pytest.approx((scaled[:, :-2] ** 2).sum(), rel=0.03)


def test_what_hardly_varies_counts_no_more_than_what_varies_as_usual():
    width = np.array([1e-6, 1, 2, 3, 1], np.float32)
    codes = np.random.default_rng(1).normal(size=(4000, 5)).astype(np.float32) * width
    _, spread = code_scale(codes, 1)
    assert spread[:4] == pytest.approx([1.5, 1.5, 2, 3], rel=0.04)


def test_there_are_five_verdicts():
    assert VERDICTS == (0.0, 0.2, 0.5, 0.8, 1.0)
