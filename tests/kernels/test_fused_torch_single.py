import numpy as np
import pytest
import torch

from kernels.fused_torch_single import single_windows
from kernels.windows import fill_windows
from tests.kernels.torch_support import DEVICES, messy_image


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("background", [3.0, 1e4])
def test_windows_are_those_of_the_processor(device, background):
    image, usable, _ = messy_image(bands=2)
    image[0, 26:60, 30:70] += 1e6
    rows, columns = 16, 18
    theirs = np.empty((rows * columns, 2, 26, 26), np.float32)
    _, scored = fill_windows(image, usable, background, (rows, columns), 7, 0, theirs)
    index = torch.arange(rows * columns, device=device)
    there = torch.from_numpy(image).to(device), torch.from_numpy(usable).to(device)
    ours, spread = single_windows(*there, background, (index // columns * 7, index % columns * 7), 26)
    assert not bool(spread.cpu()[~scored & _mostly_usable(usable, rows, columns)].any())
    assert bool(spread.cpu()[scored].all())
    np.testing.assert_allclose(ours.cpu().numpy()[scored], theirs[scored], rtol=1e-6, atol=1e-6)


def _mostly_usable(usable, rows, columns):
    windows = np.lib.stride_tricks.sliding_window_view(usable, (26, 26))[::7, ::7][:rows, :columns]
    return 2 * windows.sum((2, 3)).ravel() >= 26 * 26
