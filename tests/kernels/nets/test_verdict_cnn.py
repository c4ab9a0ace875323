import torch

from kernels.nets.verdict_cnn import VerdictCnn
from kernels.stamps import CHANNELS, SIDE


def test_both_pictures_and_measurements_count():
    torch.manual_seed(1)
    net = VerdictCnn(5).eval()
    stamps, features = torch.randn(3, CHANNELS, SIDE, SIDE), torch.randn(3, 5)
    plain = net(stamps, features)
    assert plain.shape == (3,)
    for changed in (
        (stamps * torch.tensor([2.0, 1, 1, 1, 1, 1])[:, None, None], features),
        (stamps * torch.tensor([1.0, 1, 1, 1, 2, 1])[:, None, None], features),
        (stamps, features + 1),
    ):
        assert (net(*changed) != plain).all()


def test_measurements_are_standardised():
    net = VerdictCnn(2).eval()
    stamps = torch.zeros(1, CHANNELS, SIDE, SIDE)
    first = net(stamps, torch.tensor([[3.0, 4.0]]))
    net.mean.copy_(torch.tensor([3.0, 4.0]))
    net.scale.copy_(torch.tensor([2.0, 5.0]))
    torch.testing.assert_close(net(stamps, torch.tensor([[3.0 + 2 * 3.0, 4.0 + 5 * 4.0]])), first)
