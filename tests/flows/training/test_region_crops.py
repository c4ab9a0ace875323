import numpy as np
import pytest

from flows.training import region_crops
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


def test_crops_lie_where_the_seed_says(examples, monkeypatch):
    corners = []
    monkeypatch.setattr(region_crops, "cut_region_crop", lambda field, sources, corner, rng: corners.append(corner))
    found = []
    for shares in (CropShares(), CropShares(trail=1.0), CropShares(0.2, 0.5)):
        draw = CropDraw(examples, 3)
        hard = {open_field(example).name: np.array([[200.0, 210.0], [260.0, 180.0]]) for example in examples}
        draw.show(hard, shares)
        corners.clear()
        draw.crops(60)
        x, y = np.array(corners).T
        found.append([x.sum(), y.sum(), (x * y).sum(), (x * np.arange(60)).sum()])
    np.testing.assert_allclose(found, GOLDEN_CORNERS, rtol=1e-6)
    assert CropShares() == CropShares(trail=0.55, hard=0.0)


GOLDEN_CORNERS = [[5780, 5570, 562368, 173895], [5777, 5537, 585074, 185716], [7844, 5369, 633943, 238190]]


def test_what_is_shown_lies_within_the_judged_part_of_a_crop(examples, monkeypatch):
    """Off the rim by the border, five cells of 4 px, and 4 px more."""
    corners, drawn = [], []
    monkeypatch.setattr(region_crops, "cut_region_crop", lambda field, sources, corner, rng: corners.append(corner))
    field = open_field(examples[0])
    draw = CropDraw(examples[:1], 5)
    draw.show({field.name: np.array([[225.0, 210.0]])}, CropShares(0.0, 1.0))
    draw.crops(3000)
    drawn = np.array([225, 210]) - np.array(corners)
    assert drawn.min() >= 24
    assert drawn.max() <= 224 - 24 + 1
    assert drawn.min() < 26
    assert drawn.max() > 198


def test_the_network_is_given_a_psf_a_little_off(examples, monkeypatch):
    seen = []
    monkeypatch.setattr(region_crops, "dense_input", lambda plane, *rest: seen.append((plane.fwhm_px, rest)))
    field = open_field(examples[0])
    sources = sources_of(examples[0].truth, field)
    for seed in range(300):
        cut_region_crop(field, sources, (100, 100), np.random.default_rng(seed))
    off = np.log([fwhm for fwhm, _ in seen]) - np.log(field.info.psf.fwhm_px)
    assert off.std() == pytest.approx(0.08, rel=0.1)
    assert off.mean() == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose([off.sum(), (off**2).sum()], GOLDEN_OFF, rtol=1e-6)
    assert {rest for _, rest in seen} == {(0, 0, 56, 56)}


GOLDEN_OFF = [0.01442384287322529, 2.1322639380394657]


def test_boxes_reach_half_a_pixel_beyond_the_middles_of_the_outermost(examples):
    found = true_boxes(examples[0].truth)
    names = [("xmin", -0.5), ("ymin", -0.5), ("xmax", 0.5), ("ymax", 0.5)]
    for column, (name, beyond) in zip(found.T, names, strict=True):
        np.testing.assert_array_equal(column, examples[0].truth[f"box_{name}"].to_numpy() + beyond)


def test_what_counts_neither_way_is_whatever_shines_and_is_not_asked_for(examples):
    field = open_field(examples[0])
    sources = sources_of(examples[0].truth, field)
    rest = ~field.wanted & (field.snr >= 0)
    targets = field.targets
    expected = np.stack([targets.x, targets.y, targets.length, targets.angle], 1)[rest]
    np.testing.assert_array_equal(sources.lines, expected)
    np.testing.assert_array_equal(sources.boxes, true_boxes(examples[0].truth)[field.wanted])


@pytest.mark.parametrize("axis", [0, 1])
def test_a_line_for_a_trail_at_the_rim_is_as_long_as_its_longer_side(axis):
    half = np.array([6.0, 4.0])[[axis, 1 - axis]]
    centre = np.array([3.0, 30.0])
    box = np.concatenate([centre - half, centre + half])[None]
    np.testing.assert_allclose(Sources(box, NONE).cropped(0, 0, 60, 8.0).lines, [[3, 30, 12, 0]])
