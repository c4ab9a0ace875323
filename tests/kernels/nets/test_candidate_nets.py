import torch

from kernels.nets.candidate_nets import LINE_CHANNELS, CandidateCnn, VerdictCnn
from kernels.search.candidate_search import LONG, WIDE
from schemas.model_card import STAMP_CHANNELS, STAMP_SIDE


def test_is_small_and_gives_one_number_per_candidate():
    net = CandidateCnn(63).eval()
    assert 20_000 < sum(weight.numel() for weight in net.parameters()) < 32_000
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(5, LINE_CHANNELS, WIDE, LONG, generator=generator)
    features = torch.randn(5, 63, generator=generator)
    odds = net(pictures, features)
    assert odds.shape == (5,)
    torch.testing.assert_close(net(pictures[2:3], features[2:3]), odds[2:3], rtol=1e-4, atol=1e-5)


def test_a_wild_feature_counts_no_more_than_five_spreads():
    net = CandidateCnn(4).eval()
    picture = torch.zeros(2, LINE_CHANNELS, WIDE, LONG)
    odds = net(picture, torch.tensor([[1e9, 0, 0, 0], [5.0, 0, 0, 0]]))
    torch.testing.assert_close(odds[0], odds[1])


def test_both_pictures_and_measurements_count():
    torch.manual_seed(1)
    net = VerdictCnn(5).eval()
    stamps, features = torch.randn(3, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE), torch.randn(3, 5)
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
    stamps = torch.zeros(1, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE)
    first = net(stamps, torch.tensor([[3.0, 4.0]]))
    net.mean.copy_(torch.tensor([3.0, 4.0]))
    net.scale.copy_(torch.tensor([2.0, 5.0]))
    torch.testing.assert_close(net(stamps, torch.tensor([[3.0 + 2 * 3.0, 4.0 + 5 * 4.0]])), first)
