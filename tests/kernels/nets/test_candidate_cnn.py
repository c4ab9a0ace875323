import torch

from kernels.line_cutouts import CHANNELS, LONG, WIDE
from kernels.nets.candidate_cnn import CandidateCnn


def test_is_small_and_gives_one_number_per_candidate():
    net = CandidateCnn(63).eval()
    assert 20_000 < sum(weight.numel() for weight in net.parameters()) < 32_000
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(5, CHANNELS, WIDE, LONG, generator=generator)
    features = torch.randn(5, 63, generator=generator)
    odds = net(pictures, features)
    assert odds.shape == (5,)
    torch.testing.assert_close(net(pictures[2:3], features[2:3]), odds[2:3], rtol=1e-4, atol=1e-5)


def test_a_wild_feature_counts_no_more_than_five_spreads():
    net = CandidateCnn(4).eval()
    picture = torch.zeros(2, CHANNELS, WIDE, LONG)
    odds = net(picture, torch.tensor([[1e9, 0, 0, 0], [5.0, 0, 0, 0]]))
    torch.testing.assert_close(odds[0], odds[1])
