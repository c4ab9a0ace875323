import numpy as np
import pytest
import torch

from kernels.fused_convolution import convolve_rows
from kernels.fused_layers import layers_of
from kernels.fused_net import fuse
from kernels.fused_rows import split_row
from tests.kernels.fused_fixture import network, sky


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("stride", [1, 7, 9])
def test_rows_are_those_of_torch(bands, stride):
    net = network(bands)
    image, usable = sky((12, 200), bands, bad=0.0)
    layers, length = layers_of(fuse(net)), 16
    pixels = np.zeros((bands, 5, stride + 4, length), np.float32)
    for y in range(3, 8):
        for band in range(bands):
            split_row(image[band], usable, np.float32(0), y, 2, stride, pixels[band, y % 5])
    out = np.empty((6, bands, stride * length), np.float32)
    convolve_rows(pixels, 3, layers, out)
    for band in range(bands):
        with torch.no_grad():
            weight = net.conv1.weight[:, band : band + 1]
            expected = torch.conv2d(torch.from_numpy(image[band : band + 1, 3:8, 2:]), weight)[:, 0].numpy()
        for phase in range(stride):
            found = out[:, band].reshape(6, stride, length)[:, phase]
            true = expected[:, phase::stride][:, : length - 4]
            np.testing.assert_allclose(found[:, : true.shape[1]], true, rtol=1e-4, atol=1e-3)
