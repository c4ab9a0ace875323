import numpy as np
import pytest

from flows.training.field import open_field
from flows.training.region_crops import BORDER, SIDE, CropDraw, CropShares, cut_crop
from flows.training.region_truth import sources_of
from kernels.squash import squash


def plane_of(cells, number):
    """Pixels of one of the planes that describe cells."""
    rows, columns = cells.shape[:2]
    part = cells[:, :, 16 * number : 16 * number + 16].reshape(rows, columns, 4, 4)
    return part.transpose(0, 2, 1, 3).reshape(4 * rows, 4 * columns)


def test_pixels_and_boxes_are_turned_alike(examples):
    field = open_field(examples[0])
    sources = sources_of(examples[0].truth, field)
    x0, y0 = 120, 90
    value = np.where(field.usable, (field.pixels - field.info.background) / field.info.noise, 0).astype(np.float32)
    squash(value)
    value = value[y0 : y0 + SIDE, x0 : x0 + SIDE]
    straight = sources.cropped(x0, y0, SIDE, float(4 * BORDER))
    assert len(straight.boxes)
    seen = set()
    for seed in range(64):
        crop = cut_crop(field, sources, (x0, y0), np.random.default_rng(seed))
        assert crop.cells.shape == (SIDE // 4, SIDE // 4, 48)
        image = plane_of(crop.cells, 0)
        for turns in range(4):
            for mirror in (False, True):
                turned = np.rot90(value, turns)
                if np.allclose(image, turned.T if mirror else turned, atol=1e-3):
                    seen.add((turns, mirror))
                    np.testing.assert_allclose(crop.sources.boxes, straight.turned(turns, mirror, SIDE).boxes)
    assert len(seen) == 8


def test_crops_show_what_is_asked_for(examples):
    draw = CropDraw(examples, 1)
    draw.show({}, CropShares(trail=1.0))
    crops = draw.crops(20)
    assert np.mean([len(crop.sources.boxes) > 0 for crop in crops]) > 0.8
    boxes = np.concatenate([crop.sources.boxes for crop in crops])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert ((middle > 4 * BORDER) & (middle < SIDE - 1 - 4 * BORDER)).all()


def test_hard_places_are_shown(examples):
    fields = [open_field(example) for example in examples]
    place = np.array([[225.0, 210.0]])
    draw = CropDraw(examples, 2)
    draw.show({field.name: place for field in fields}, CropShares(trail=0.0, hard=1.0))
    brightness = [field.pixels[210, 225] for field in fields]
    shown = [
        min(abs(plane_of(crop.cells, 0).astype(np.float64) - _squashed(field, value)).min() for field, value in pairs)
        for crop in draw.crops(6)
        for pairs in [list(zip(fields, brightness, strict=True))]
    ]
    assert max(shown) < 1e-5


def _squashed(field, value):
    one = np.array([[(value - field.info.background) / field.info.noise]], np.float32)
    squash(one)
    return one[0, 0]


def test_the_same_seed_draws_the_same_crops(examples):
    first, second, other = (CropDraw(examples, seed).crops(2) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[1].cells, second[1].cells)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(first[1].cells, other[1].cells)
