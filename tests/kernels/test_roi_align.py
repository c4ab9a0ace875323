import numpy as np
import pytest
import torch

from kernels.roi_align import roi_align


def by_hand(maps, box, bins):
    """Mean over 2 x 2 points of each part; each point linear between the centres of cells of 4 px."""
    channels, rows, columns = maps.shape
    out = np.zeros((channels, bins, bins))
    x0, y0, x1, y1 = box
    for r in range(2 * bins):
        for c in range(2 * bins):
            v = (y0 + (r + 0.5) * (y1 - y0) / (2 * bins) - 1.5) / 4
            u = (x0 + (c + 0.5) * (x1 - x0) / (2 * bins) - 1.5) / 4
            j, i = int(np.floor(v)), int(np.floor(u))
            for dj, wj in ((0, j + 1 - v), (1, v - j)):
                for di, wi in ((0, i + 1 - u), (1, u - i)):
                    value = maps[:, min(max(j + dj, 0), rows - 1), min(max(i + di, 0), columns - 1)]
                    out[:, r // 2, c // 2] += wj * wi * value / 4
    return out


@pytest.mark.parametrize("bins", [1, 3, 7])
def test_agrees_with_the_sum_by_hand(bins):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 3, 9, 11)).astype(np.float32)
    corner, sides = rng.uniform(-3, 20, (8, 2)), rng.uniform(1, 30, (8, 2))
    boxes, image = np.concatenate([corner, corner + sides], 1), np.arange(8) % 2
    found = roi_align(torch.from_numpy(maps), torch.from_numpy(image), torch.from_numpy(boxes), bins).numpy()
    expected = np.stack([by_hand(maps[n], box, bins) for n, box in zip(image, boxes, strict=True)])
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_of_a_plane_it_is_the_value_in_the_middle_of_each_part():
    y, x = np.mgrid[:10, :12] * 4.0 + 1.5
    maps = torch.from_numpy(np.stack([x, y])[None])
    found = roi_align(maps, torch.zeros(1, dtype=torch.int64), torch.tensor([[6.0, 8.0, 26.0, 18.0]]).double(), 5)[0]
    np.testing.assert_allclose(found[0, 2], [8, 12, 16, 20, 24], atol=1e-9)
    np.testing.assert_allclose(found[1, :, 2], [9, 11, 13, 15, 17], atol=1e-9)


def test_does_not_depend_on_where_the_maps_begin():
    rng = np.random.default_rng(1)
    maps = torch.from_numpy(rng.normal(size=(1, 4, 60, 60)).astype(np.float32))
    corner = rng.integers(40 * 256, 100 * 256, (30, 2)) / 256
    boxes = torch.from_numpy(np.concatenate([corner, corner + rng.integers(256, 60 * 256, (30, 2)) / 256], 1))
    zeros = torch.zeros(30, dtype=torch.int64)
    here = roi_align(maps, zeros, boxes, 7)
    there = roi_align(maps[:, :, 5:, 8:], zeros, boxes - torch.tensor([32.0, 20, 32, 20]), 7)
    np.testing.assert_array_equal(here.numpy(), there.numpy())


def test_slopes_are_those_of_the_sum():
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[3.0, 2.0, 17.0, 11.0], [-2.0, 5.0, 9.0, 30.0]]).double()
    assert torch.autograd.gradcheck(lambda m: roi_align(m, torch.zeros(2, dtype=torch.int64), boxes, 3), maps)
