import numpy as np
import pytest

from flows.training.examples import open_field
from flows.training.region_crops import BORDER, CropDraw, CropShares, Sources, cut_region_crop, sources_of, true_boxes
from flows.training.region_crops import SIDE as SIDE_REGION_CROPS
from kernels.image.search_image import squash


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
    value = value[y0 : y0 + SIDE_REGION_CROPS, x0 : x0 + SIDE_REGION_CROPS]
    straight = sources.cropped(x0, y0, SIDE_REGION_CROPS, float(4 * BORDER))
    assert len(straight.boxes)
    seen = set()
    for seed in range(64):
        crop = cut_region_crop(field, sources, (x0, y0), np.random.default_rng(seed))
        assert crop.cells.shape == (SIDE_REGION_CROPS // 4, SIDE_REGION_CROPS // 4, 48)
        image = plane_of(crop.cells, 0)
        for turns in range(4):
            for mirror in (False, True):
                turned = np.rot90(value, turns)
                if np.allclose(image, turned.T if mirror else turned, atol=1e-3):
                    seen.add((turns, mirror))
                    np.testing.assert_allclose(
                        crop.sources.boxes, straight.turned(turns, mirror, SIDE_REGION_CROPS).boxes
                    )
    assert len(seen) == 8


def test_crops_show_what_is_asked_for(examples):
    draw = CropDraw(examples, 1)
    draw.show({}, CropShares(trail=1.0))
    crops = draw.crops(20)
    assert np.mean([len(crop.sources.boxes) > 0 for crop in crops]) > 0.8
    boxes = np.concatenate([crop.sources.boxes for crop in crops])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert ((middle > 4 * BORDER) & (middle < SIDE_REGION_CROPS - 1 - 4 * BORDER)).all()


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


NONE = np.empty((0, 4))
SIDE = 40


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_turned_boxes_hold_the_turned_pixels(turns, mirror):
    image = np.zeros((SIDE, SIDE))
    image[7:12, 20:34] = 1
    image[30, 3:14] = 2  # a line from (3, 30) to (13, 30)
    sources = Sources(np.array([[19.5, 6.5, 33.5, 11.5]]), np.array([[8.0, 30, 10, 0]])).turned(turns, mirror, SIDE)
    image = np.rot90(image, turns)
    image = image.T if mirror else image
    rows, columns = np.nonzero(image == 1)
    expected = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
    np.testing.assert_allclose(sources.boxes, [expected])
    x, y, length, angle = sources.lines[0]
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * length / 2
    ends = sorted(tuple(np.round([x, y] + sign * along, 9).tolist()) for sign in (-1, 1))
    rows, columns = np.nonzero(image == 2)
    found = sorted(zip(columns.tolist(), rows.tolist(), strict=True))
    assert ends == [pytest.approx(found[0]), pytest.approx(found[-1])]


def test_crops_keep_what_lies_well_inside():
    boxes = np.array([[110.0, 120, 120, 130], [98, 120, 108, 130], [300, 300, 310, 310]])
    lines = np.array([[105.0, 140, 0, 0], [95, 120, 60, 0], [400, 400, 0, 0]])
    cropped = Sources(boxes, lines).cropped(100, 100, 60, 8.0)
    np.testing.assert_array_equal(cropped.boxes, [[10, 20, 20, 30]])
    # What is cut by the rim counts neither way, and so does what reaches in from outside.
    np.testing.assert_array_equal(cropped.lines, [[5, 40, 0, 0], [-5, 20, 60, 0], [3, 25, 10, 0]])


def test_boxes_of_the_truth_hold_their_trails(examples):
    truth = examples[0].truth
    boxes = true_boxes(truth)
    inner = ((boxes[:, :2] > 0) & (boxes[:, 2:] < [449, 419])).all(1)
    assert inner.sum() > 8
    length, angle, fwhm = (truth[name].to_numpy() for name in ("length_px", "angle_deg", "fwhm_px"))
    half = length[:, None] / 2 * np.abs(np.stack([np.cos(np.radians(angle)), np.sin(np.radians(angle))], 1))
    centre = np.stack([truth["x"].to_numpy(), truth["y"].to_numpy()], 1)
    # To whole pixels, with two widths of the PSF.
    low, high = (centre - half - boxes[:, :2])[inner], (boxes[:, 2:] - centre - half)[inner]
    for margin in (low, high):
        assert (margin >= 2 * fwhm[inner, None] + 0.49).all()
        assert (margin <= 2 * fwhm[inner, None] + 1.51).all()


def test_sources_are_trails_to_be_found_and_all_else(examples):
    field = open_field(examples[0])
    sources = sources_of(examples[0].truth, field)
    assert len(sources.boxes) == field.wanted.sum() > 0
    assert len(sources.boxes) + len(sources.lines) + field.dark.sum() == len(field.snr)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("middle", "judged"), [(7.9, False), (8.0, False), (8.1, True), (50.9, True), (51.0, False), (51.1, False)]
)
def test_a_trail_is_judged_if_its_middle_is_further_from_the_rim_than_the_border(axis, middle, judged):
    """The rim of a crop 60 px wide is at 0 and 59."""
    centre = np.array([30.0, 30.0])
    centre[axis] = middle
    half = np.array([6, 4])
    box = np.concatenate([centre - half, centre + half])[None] + 100
    cropped = Sources(box, NONE).cropped(100, 100, 60, 8.0)
    np.testing.assert_allclose(cropped.boxes, box - 100 if judged else NONE)
    np.testing.assert_allclose(cropped.lines, NONE if judged else [[*centre, 12, 0]])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("outside", "there"), [(-4.9, True), (-5.0, False), (63.9, True), (64.0, False)])
def test_a_trail_whose_box_does_not_touch_a_crop_is_not_there(axis, outside, there):
    centre = np.array([30.0, 30.0])
    centre[axis] = outside
    box = np.concatenate([centre - 5, centre + 5])[None]
    cropped = Sources(box, NONE).cropped(0, 0, 60, 8.0)
    assert (len(cropped.boxes), len(cropped.lines)) == (0, there)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("outside", "there"), [(-24.9, True), (-25.0, False), (84.9, True), (85.0, False)])
def test_a_line_is_there_if_it_may_reach_within_20_px_of_a_crop(axis, outside, there):
    line = np.array([[30.0, 30.0, 10.0, 70.0]])
    line[0, axis] = outside
    assert len(Sources(NONE, line).cropped(0, 0, 60, 8.0).lines) == there


def test_crops_reach_all_ends_of_the_image_and_none_beyond(examples, monkeypatch):
    draw, corners = CropDraw(examples[:1], 4), []
    monkeypatch.setattr(
        "flows.training.region_crops.cut_region_crop", lambda field, sources, corner, rng: corners.append(corner)
    )
    field = open_field(examples[0])
    ny, nx = field.pixels.shape
    draw.show({field.name: np.array([[3.0, ny - 3.0]])}, CropShares(trail=0.0))
    draw.crops(300)
    last = np.array([nx, ny]) - SIDE_REGION_CROPS
    assert (np.min(corners, axis=0) == 0).all()
    assert (np.max(corners, axis=0) == last).all()
    corners.clear()
    draw.show({field.name: np.array([[3.0, ny - 3.0]])}, CropShares(trail=0.0, hard=1.0))
    draw.crops(50)
    assert {corner[0] for corner in corners} == {0}
    assert np.median([corner[1] for corner in corners]) == last[1]
