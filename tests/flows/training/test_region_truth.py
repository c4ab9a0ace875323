import numpy as np
import pytest

from flows.training.field import open_field
from flows.training.region_truth import Sources, sources_of, true_boxes

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
