import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kernels.pictures.compact_net import PictureNet
from kernels.pictures.picture_model import (
    PictureModel,
    build_picture_model,
    mean_probability,
    occlusion_map,
    squared,
    symmetric_scores,
)
from tests.support.cards import model_card

CLASSES = ("a", "b", "c")


def card(side=32, crop=1.0, symmetries=8, temperature=1.0):
    known = {"kind": "pictures", "side": side, "crop": crop, "symmetries": symmetries}
    return model_card(stage="morphology", classes=CLASSES, input=known, calibration={"temperature": temperature})


def net(seed=0):
    torch.manual_seed(seed)
    return PictureNet(classes=3).eval()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 255), st.floats(0.05, 1.0))
@hypothesis_settings(max_examples=40, deadline=None)
def test_any_shape_becomes_a_square_of_the_same_level(ny, nx, level, crop):
    found = squared(np.full((ny, nx, 3), level, np.uint8), crop, 17)
    assert (found.shape, found.dtype) == ((3, 17, 17), torch.uint8)
    assert (found == level).all()


def test_only_the_middle_is_looked_at():
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:, :30] = picture[:, 70:] = picture[:10] = picture[-10:] = 255
    assert squared(picture, 2 / 3, 40).max() == 0
    assert squared(picture, 1.0, 40).max() == 255


def test_light_is_kept_when_a_picture_shrinks():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (128, 128, 3)).astype(np.uint8)
    found = squared(picture, 1.0, 16).numpy().astype(float)
    np.testing.assert_allclose(found.mean((1, 2)), picture.mean((0, 1)), atol=1.0)
    assert found.std() < 0.3 * picture.std()


def test_verdicts_do_not_depend_on_how_a_picture_is_turned():
    model, rng = PictureModel(card(), net()), np.random.default_rng(2)
    picture = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
    turned = [np.rot90(picture, n) for n in range(4)] + [np.rot90(picture[:, ::-1], n) for n in range(4)]
    found = model(turned)
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_each_symmetry_is_another_view():
    picture = torch.arange(32 * 32 * 3).reshape(1, 3, 32, 32).remainder(251).to(torch.uint8)
    assert len({tuple(row.ravel().tolist()) for row in symmetric_scores(net(), picture, 8)}) == 8
    plain = net()(picture.float() / 255)
    assert torch.allclose(symmetric_scores(net(), picture, 1)[0], plain, atol=1e-6)
    assert torch.allclose(symmetric_scores(net(), picture, 2)[1], net()(picture.flip(3).float() / 255), atol=1e-6)


def test_temperature_makes_verdicts_less_sure():
    scores = torch.tensor([[[3.0, 0.0, -1.0]]])
    expected = np.exp([3.0, 0.0, -1.0]) / np.exp([3.0, 0.0, -1.0]).sum()
    np.testing.assert_allclose(mean_probability(scores, 1.0)[0], expected, rtol=1e-5)
    np.testing.assert_allclose(mean_probability(scores, 1e6)[0], 1 / 3, atol=1e-4)


def test_a_model_is_built_from_its_arrays_and_nothing_else(tmp_path):
    arrays = {name: value.numpy() for name, value in net(3).state_dict().items()} | {"learnt": np.arange(3)}
    model = build_picture_model(card(), arrays)
    picture = np.random.default_rng(3).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    np.testing.assert_array_equal(model([picture]), PictureModel(card(), net(3))([picture]))
    assert model([]).shape == (0, 3)
    with pytest.raises(RuntimeError, match="Missing key"):
        build_picture_model(card(), {"learnt": np.arange(3)})


def test_the_network_takes_any_side_and_leaves_no_weight_without_use():
    one = PictureNet(classes=4)
    assert sum(value.numel() for value in one.parameters()) == 309_028
    for side in (16, 33, 48, 100):
        assert one(torch.rand(2, 3, side, side)).shape == (2, 4)
        assert one.codes(torch.rand(2, 3, side, side)).shape == (2, one.last.in_features)
    one.train()
    one(torch.rand(4, 3, 32, 32)).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in one.parameters())
    one.eval()
    many = torch.rand(5, 3, 32, 32)
    assert torch.allclose(one(many)[2], one(many[2:3])[0], atol=1e-5), "a verdict does not depend on other pictures"


def test_what_speaks_for_a_class_is_what_is_lost_of_its_probability():
    model = PictureModel(card(side=24, crop=0.5, symmetries=2), net())
    picture = np.random.default_rng(1).integers(0, 256, (48, 60, 3)).astype(np.uint8)
    seen, lost = model.attribution(picture, "b")
    assert np.array_equal(seen, squared(picture, 0.5, 24).permute(1, 2, 0).numpy())
    assert lost.shape == (24, 24)
    assert np.abs(lost).max() <= model([picture])[0].max() + 1
    assert sum(model.attribution(picture, name)[1] for name in CLASSES) == pytest.approx(0, abs=1e-5)


def test_a_picture_that_is_the_middle_already_is_looked_at_as_a_whole():
    pictures = np.random.default_rng(1).integers(0, 256, (3, 60, 60, 3)).astype(np.uint8)
    middle = PictureModel(card(crop=0.5), net())
    assert np.array_equal(middle(pictures, whole=True), PictureModel(card(crop=1.0), net())(pictures))
    assert np.array_equal(middle(pictures), middle(pictures[:, 15:45, 15:45], whole=True))


def test_a_fused_network_says_the_same():
    torch.manual_seed(3)
    learnt, pictures = PictureNet(classes=3), torch.rand(8, 3, 40, 40)
    for _ in range(4):
        learnt(torch.rand(16, 3, 40, 40))
    fused = learnt.fused()
    assert sum(isinstance(one, torch.nn.BatchNorm2d) for one in fused.modules()) == 0
    with torch.inference_mode():
        assert torch.allclose(fused(pictures), learnt.eval()(pictures), atol=1e-4)
        assert torch.allclose(fused.codes(pictures), learnt.codes(pictures), atol=1e-4)


def bright_square(side=48):
    drawn = torch.full((3, side, side), 10, dtype=torch.uint8)
    drawn[:, 12:20, 28:36] = 200
    return drawn


@pytest.mark.parametrize("side", [48, 64])
def test_what_a_score_rests_on_is_marked_and_nothing_else(side):
    drawn = bright_square(side)
    found = occlusion_map(lambda given: given[:, 0, 12:20, 28:36].float().mean((1, 2)).numpy(), drawn)
    assert found.shape == (side, side)
    middle = found[14:18, 30:34].mean()
    assert middle > 60
    away = np.ones((side, side), bool)
    away[2:30, 18:46] = False
    assert np.abs(found[away]).max() == 0


def test_hiding_what_speaks_against_it_counts_below_zero():
    found = occlusion_map(lambda given: -given[:, 0].float().mean((1, 2)).numpy(), bright_square())
    assert found[16, 32] < 0
    assert found.max() == pytest.approx(0, abs=1e-6)


def test_the_picture_is_left_as_it_is_and_a_plain_one_has_no_marks():
    drawn = bright_square()
    before = drawn.clone()
    occlusion_map(lambda given: given.float().mean((1, 2, 3)).numpy(), drawn)
    assert torch.equal(drawn, before)
    plain = torch.full((3, 16, 16), 77, dtype=torch.uint8)
    assert not occlusion_map(lambda given: given.float().std((1, 2, 3)).numpy(), plain).any()
