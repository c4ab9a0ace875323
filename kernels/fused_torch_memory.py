"""How many rows of windows a torch device takes at once."""

import torch

from kernels.fused_net import FusedNet

PROCESSOR = 256 * 2**20
"""Budget on the processor, bytes: enough for matrix products at full speed, too little to be noticed."""

SHARE = 0.5
"""Of a GPU's free memory that is taken: the allocator's pieces do not always fit each other."""

LARGEST = 8 * 2**30
"""More than this at once gains nothing; indices stay below 2^31."""


def chunk_rows(net: FusedNet, device: torch.device, columns: int, nx: int, stride: int) -> int:
    """Give the rows of windows to search at once, 1 or more.

    Parameters
    ----------
    net
        The network.
    device
        Its free memory counts, what torch holds in reserve included.
    columns, nx
        Windows in a row, and the width of the image, pixels.
    stride
        Step between windows, pixels.
    """
    budget = PROCESSOR
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = min(LARGEST, int(SHARE * (torch.cuda.mem_get_info(device)[0] + idle)))
    row = columns * window_bytes(net) + stride * nx * pixel_bytes(net)
    halo = (net.side - stride) * nx * pixel_bytes(net)
    return max(1, (budget - halo) // row)


def pixel_bytes(net: FusedNet) -> int:
    """Give the most that a pixel takes while its image is measured and convolved."""
    channels, _, kernel, _ = net.first_weight.shape
    moments = 8 * (2 * net.bands + 1)  # float64 pixels, their squares, the mask
    patches = 4 * kernel * (kernel + 7) // 8 + 8
    maps = 4 * channels * (3 if net.bands == 1 else net.bands)  # a pool holds its input and two steps
    return moments + patches + maps + 8 * net.bands


def window_bytes(net: FusedNet) -> int:
    """Give the most that a window takes after the first convolution."""
    channels = net.first_weight.shape[0]
    values = net.pooled_side**2 * channels
    results = net.second_weight.shape[0] * (net.pooled_side - net.second_weight.shape[2] + 1) ** 2
    summed = 0 if net.bands == 1 else 2 * channels * (2 * net.pooled_side + 2) ** 2  # before and while pooling
    return 4 * (max(summed, 2 * results) + values) + 128
