import itertools

import pytest
import torch
from torch import nn

from benchmarks.pictures.published_nets import GalaxyCnn, GalaxyLstm, GalaxyMlp, ResNet50, SceneCnn


def parameters(net):
    """Count as Keras does: with the running mean and variance of batch norms."""
    kept = sum(one.numel() for name, one in net.named_buffers() if not name.endswith("num_batches_tracked"))
    return kept + sum(one.numel() for one in net.parameters())


@pytest.mark.parametrize(
    ("kind", "expected"), [(GalaxyMlp, 38_837_130), (GalaxyCnn, 53_760_970), (GalaxyLstm, 26_246_986)]
)
def test_parameters_are_as_many_as_published(kind, expected):
    with torch.device("meta"):
        net = kind()
    assert parameters(net) == expected


def test_the_lstm_has_one_bias_more_than_the_published_one():
    with torch.device("meta"):
        net = GalaxyLstm()
    assert parameters(net) - net.recurrent.bias_hh_l0.numel() == 26_245_962


def test_resnet_50_has_its_parameters_and_its_fifty_layers():
    with torch.device("meta"):
        net = ResNet50()
    assert sum(one.numel() for one in net.parameters()) == 25_557_032
    kinds = (nn.Conv2d, nn.Linear)
    layers = [one for name, one in net.named_modules() if isinstance(one, kinds) and "short" not in name]
    assert len(layers) == 50


SMALL = [lambda: GalaxyMlp(4, 32), lambda: GalaxyCnn(4, 32), lambda: GalaxyLstm(4, 32), lambda: ResNet50(4)]


@pytest.mark.parametrize(("make", "length"), list(zip(SMALL, [(), (), (2,), ()], strict=True)))
def test_scores_are_those_of_each_picture_and_every_layer_learns(make, length):
    torch.manual_seed(1)
    net, pictures = make(), torch.rand(3, *length, 3, 32, 32)
    torch.nn.functional.cross_entropy(net(pictures), torch.tensor([0, 1, 3])).backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in net.parameters())
    net.eval()
    with torch.inference_mode():
        scores = net(pictures)
        assert scores.shape == (3, 4)
        assert net(pictures[1:2])[0] == pytest.approx(scores[1], abs=1e-4)


def test_the_lstm_reads_several_pictures_of_a_galaxy_in_their_order():
    torch.manual_seed(1)
    net, series = GalaxyLstm(4, 32).eval(), torch.rand(2, 3, 3, 32, 32)
    with torch.inference_mode():
        assert net(series).shape == (2, 4)
        assert torch.allclose(net(series[:, :1]), net(series[:, 0]), atol=1e-6)
        assert not torch.allclose(net(series), net(series.flip(1)), atol=1e-4)


def test_the_network_of_scenes_has_the_layers_that_are_published():
    net = SceneCnn()
    kinds = [type(layer) for layer in net.maps]
    assert [kind for kind in kinds if kind is not nn.ReLU] == [
        nn.Conv2d, nn.MaxPool2d, nn.Conv2d, nn.MaxPool2d, nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.MaxPool2d,
    ]  # fmt: skip
    assert all(layer.kernel_size == (3, 3) for layer in net.maps if isinstance(layer, nn.Conv2d))
    assert sum(isinstance(layer, nn.Linear) for layer in net.dense) == 3
    assert net(torch.zeros(2, 3, 224, 224)).shape == (2, 3)


def test_norm_is_added_after_each_convolution_of_it():
    layers = list(SceneCnn(side=64, norm=True).maps)
    pairs = [type(after) for layer, after in itertools.pairwise(layers) if isinstance(layer, nn.Conv2d)]
    assert pairs == [nn.BatchNorm2d] * 5
    assert SceneCnn(side=64, classes=5, norm=True)(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
