"""Search of whole images with a window network, on a torch device."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.fused_dense import Precision
from kernels.fused_net import FusedNet
from kernels.fused_search import MARGIN
from kernels.fused_torch_chain import Chain
from kernels.fused_torch_convolutions import DenseConvolution, SecondConvolution
from kernels.fused_torch_maps import shared_maps, single_maps
from kernels.fused_torch_memory import chunk_rows
from kernels.fused_torch_moments import window_moments
from kernels.fused_torch_rounding import full_precision
from kernels.fused_torch_single import single_windows
from kernels.windows import require_on_image

BATCH = {"cuda": 16384, "cpu": 1024}
"""Windows that pass the linear layers together: 1,500 activations of 2 bytes for 16,384 of them are 49 MB, the size of
an H200's second-level cache; fewer would be bound by the time it takes to start so many products."""

SINGLE = 2048
"""Windows that are cut out at once; one takes 60 kB and band."""


class TorchSearch:
    """A network that searches images without ever cutting windows out; see `shared_maps` for why that is exact.

    Threads may call it at the same time; they take turns.

    Parameters
    ----------
    net
        The network.
    device
        ``cpu`` or ``cuda``.
    precision
        Of the linear layers behind the first, where nearly all arithmetic is. Statistics are float64 and all else is
        float32 in any case.
    floor
        Log odds that matter. With bfloat16, windows that reach ``floor - MARGIN`` are scored again in float32, so that
        what reaches the floor is what float32 finds.
    batch
        Windows that pass the linear layers together; None chooses by device.
    """

    def __init__(
        self,
        net: FusedNet,
        device: torch.device,
        precision: Precision = "float32",
        floor: float | None = None,
        batch: int | None = None,
    ) -> None:
        self.net, self.device, self.precision, self.floor = net, device, precision, floor
        self._dense, self._second = DenseConvolution(net, device), SecondConvolution(net, device)
        size = batch if batch is not None else BATCH[device.type]
        self._exact = Chain(net, device, torch.float32, size)
        self._chain = self._exact if precision == "float32" else Chain(net, device, torch.bfloat16, size)

    def search(
        self,
        image: NDArray[np.float32],
        usable: NDArray[np.bool_],
        background: float,
        grid: tuple[int, int],
        stride: int,
    ) -> tuple[NDArray[np.float32], int]:
        """Score every window of an image.

        Parameters
        ----------
        image : (bands, ny, nx) float32
            Pixels, any unit.
        usable : (ny, nx) bool
            Pixels that count. Values under ``~usable`` are not read; those that are not finite never count.
        background
            What stands in for pixels that do not count.
        grid
            Rows and columns of windows. Window n starts at pixel (n // columns * stride, n % columns * stride).
        stride
            Step between windows, pixels.

        Returns
        -------
        logits : (rows * columns,) float32
            Log odds; -inf where more than half of the window is not usable or, in any band, there is no spread.
        unscored : int
            Number of those.

        Raises
        ------
        ValueError
            The windows of the grid do not lie on the image.
        """
        there = host_tensor(image).to(self.device), host_tensor(usable).to(self.device)
        logits = self.score(*there, background, grid, stride)
        return logits.cpu().numpy(), int(torch.isneginf(logits).sum())

    @torch.inference_mode()
    def score(
        self, image: torch.Tensor, usable: torch.Tensor, background: float, grid: tuple[int, int], stride: int
    ) -> torch.Tensor:
        """Score every window of an image that lies on the device already; see `search`. (rows * columns,) float32."""
        require_on_image(tuple(image.shape), grid, stride, self.net.side)
        rows, columns = grid
        logits = torch.empty(rows * columns, device=self.device)
        if not len(logits):
            return logits
        step = chunk_rows(self.net, self.device, columns, image.shape[2], stride)
        with full_precision():
            for row in range(0, rows, step):
                count = min(step, rows - row)
                box = slice(row * stride, (row + count - 1) * stride + self.net.side)
                logits[row * columns : (row + count) * columns] = self._chunk(
                    image[:, box], usable[box], float(np.float32(background)), stride, columns
                )
        return logits

    def _chunk(
        self, image: torch.Tensor, usable: torch.Tensor, background: float, stride: int, columns: int
    ) -> torch.Tensor:
        # An image may be wider than its windows ask for.
        width = (columns - 1) * stride + self.net.side
        image = image[:, :, :width]
        usable = usable[:, :width] & torch.isfinite(image).all(0)
        pixels = torch.where(usable, image.double() - background, 0.0)
        moments = window_moments(pixels, usable, background, self.net.side, stride)
        planes = pixels.float()
        del pixels
        features = self._second(shared_maps(self.net, self._dense, planes, moments, stride))
        logits = torch.where(moments.enough.flatten(), self._chain(features), -torch.inf)
        if self.floor is not None and self._chain is not self._exact:
            near = (logits >= self.floor - MARGIN).nonzero()[:, 0]
            logits[near] = self._exact(features[near])
        for index in torch.split((moments.enough & ~moments.shared).flatten().nonzero()[:, 0], SINGLE):
            origin = index // columns * stride, index % columns * stride
            windows, scored = single_windows(image, usable, background, origin, self.net.side)
            found = self._exact(self._second(single_maps(self.net, self._dense, windows[scored])))
            logits[index] = torch.full_like(logits[index], -torch.inf).masked_scatter(scored, found)
        return logits


def host_tensor(values: NDArray[Any]) -> torch.Tensor:
    """See an array as a tensor; one that must not be written to is copied, because tensors cannot promise that."""
    return torch.from_numpy(np.require(values, requirements="W"))
