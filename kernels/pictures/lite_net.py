"""Network for pictures that begins with what was learnt on everyday ones: EfficientNet-Lite0, or its first stages."""

from copy import deepcopy
from typing import cast

import torch
from torch import nn
from torch.nn.functional import conv2d, pad, relu6

from kernels.pictures.compact_net import with_norm

STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
"""Blocks, side of the filters, stride of the first block, expansion, channels: for all stages but the last."""

_STEM = 32


class LiteNet(nn.Module):
    """First stages of EfficientNet-Lite0, and a layer for the classes.

    EfficientNet (Tan & Le 2019, ICML, 6105) without squeeze and excitation, and with ReLU6: a 3 x 3 convolution of
    stride 2 to 32 channels; stages of inverted residual blocks (Sandler et al. 2018, CVPR, 4510); mean over the
    picture; dropout; class scores. Five stages have 0.70 million parameters, six 2.35 million.

    Parameters
    ----------
    classes, stages
        Number of classes, and of `STAGES`.
    """

    def __init__(self, classes: int, stages: int) -> None:
        super().__init__()
        self.stem: nn.Module = _Convolution(3, _STEM, 3, 2)
        self.norm: nn.Module = _norm(_STEM)
        blocks, before = [], _STEM
        for count, side, stride, wider, after in STAGES[:stages]:
            for number in range(count):
                blocks.append(_Block(before, after, side, 1 if number else stride, wider))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.dropout, self.last = nn.Dropout(0.3), nn.Linear(before, classes)

    def codes(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return what stands for each picture before the last layer, (n, 3, side, side), 0 to 1 -> (n, channels)."""
        seen = relu6(self.norm(self.stem(2 * pictures - 1)))
        maps: torch.Tensor = self.blocks(seen)
        return maps.mean((2, 3))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the class scores of each picture, (n, 3, side, side) from 0 to 1 -> (n, classes)."""
        scores: torch.Tensor = self.last(self.dropout(self.codes(pictures)))
        return scores

    def fused(self) -> "LiteNet":
        """Return a copy for verdicts only: batch norms are parts of the convolutions."""
        net = deepcopy(self).eval()
        net.stem, net.norm = with_norm(net.stem, net.norm), nn.Identity()
        for block in net.blocks:
            cast(_Block, block).fuse()
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class _Convolution(nn.Conv2d):
    """Convolution whose border is divided as TensorFlow does: where it is odd, more of it is right and below."""

    def __init__(self, before: int, after: int, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, side, stride, groups=groups, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        side, stride = self.kernel_size[0], self.stride[0]
        tall, wide = (max((-(-n // stride) - 1) * stride + side - n, 0) for n in maps.shape[2:])
        padded = pad(maps, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))
        return conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class _Block(nn.Module):
    def __init__(self, before: int, after: int, side: int, stride: int, wider: int) -> None:
        super().__init__()
        middle = before * wider
        self.wider: nn.Module = _Convolution(before, middle, 1) if wider > 1 else nn.Identity()
        self.wider_norm: nn.Module = _norm(middle) if wider > 1 else nn.Identity()
        self.depth: nn.Module = _Convolution(middle, middle, side, stride, middle)
        self.depth_norm: nn.Module = _norm(middle)
        self.project: nn.Module = _Convolution(middle, after, 1)
        self.project_norm: nn.Module = _norm(after)
        self.widens, self.short = wider > 1, stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = relu6(self.wider_norm(self.wider(x))) if self.widens else x
        y = self.project_norm(self.project(relu6(self.depth_norm(self.depth(y)))))
        return y + x if self.short else y

    def fuse(self) -> None:
        """Make batch norms parts of the convolutions, for verdicts only."""
        if self.widens:
            self.wider, self.wider_norm = with_norm(self.wider, self.wider_norm), nn.Identity()
        self.depth, self.depth_norm = with_norm(self.depth, self.depth_norm), nn.Identity()
        self.project, self.project_norm = with_norm(self.project, self.project_norm), nn.Identity()


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
