import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.search.line_peaks import APART, COVER_PX, PEAK_REACH, line_peaks
from kernels.search.line_search import LENGTHS, STEPS, best_lines, every_line, line_bank, point_map
from kernels.trails.matched_filter import false_alarms, template_snr
from kernels.trails.trail_model import trail_image

WHITE = np.array([[1.0]])
BANK = line_bank(2.3, WHITE)
PSF = GaussianMixture(np.array([1.0]), np.array([np.sqrt((2.3 / np.sqrt(8 * np.log(2))) ** 2 + 1 / 12)]))


def peaks_of(image, floor=4.5, bank=BANK):
    snr = point_map(image.astype(np.float32), np.ones(image.shape, bool), 0.0, 1.0, bank)
    return line_peaks(*best_lines(snr, bank, 6.0), snr, bank.scale, floor)


def trail(x, y, length, angle, snr, shape=(200, 200)):
    template = trail_image(shape, x, y, length, angle, PSF)
    return snr / template_snr(1.0, template, 1.0, WHITE) * template


@pytest.mark.parametrize(("length", "angle"), [(0, 0), (12, 30), (30, 100), (50, 45), (60, 170)])
def test_one_trail_is_one_peak_where_it_is(length, angle):
    found = peaks_of(trail(101.4, 97.2, length, angle, 12))
    best = found.snr.argmax()
    x, y, size, turn = found.lines[best]
    assert np.hypot(x - 101.4, y - 97.2) < 3
    assert abs(size - length) < 0.35 * length + 5
    if length > 20:
        assert abs((turn - angle + 90) % 180 - 90) < 6
    assert len(found.y) == 1


def test_two_parallel_trails_are_two():
    found = peaks_of(trail(100, 95, 30, 20, 10) + trail(100, 106, 30, 20, 8))
    assert len(found.y) == 2


def test_a_line_through_two_stars_hides_neither():
    found = peaks_of(trail(90, 100, 0, 0, 30) + trail(110, 100, 0, 0, 20))
    for x in (90, 110):
        assert np.hypot(found.x - x, found.y - 100).min() <= 2


@pytest.mark.parametrize("seed", range(4))
def test_a_peak_is_covered_within_its_reach_of_a_higher_line_unless_it_is_a_brighter_point(seed):
    rng, side = np.random.default_rng(seed), 180
    value, code, snr = np.zeros((side, side), np.float32), np.zeros((side, side), np.int32), np.zeros((side, side))
    count, cells = 420, side // 5  # a peak in some of the squares of 5 px, and further apart than APART
    places = np.array(np.divmod(rng.permutation(cells**2)[:count], cells)) * 5 + rng.integers(0, 2, (2, count))
    y, x = places[:, np.lexsort(places[::-1])]
    lines = np.flatnonzero(BANK.scale.ravel() > 0)
    value[y, x] = np.round(rng.uniform(5, 60, count))  # some equal
    code[y, x] = rng.choice(lines, count)
    snr[y, x] = rng.uniform(0, 12, count)
    # Independently: all pairs at once, the distance to a segment by its ends.
    height, bank = value[y, x].astype(float), every_line()[code[y, x]]
    half = 0.5 * bank[:, 2] * np.array([np.cos(np.radians(bank[:, 3])), np.sin(np.radians(bank[:, 3]))])
    points = np.array([x, y], float)
    first = (points - half)[:, :, None]
    step = 2 * half[:, :, None]
    size = np.maximum((step**2).sum(0), 1e-12)
    share = np.clip(((points[:, None] - first) * step).sum(0) / size, 0, 1)
    apart = np.hypot(*(points[:, None] - first - share * step))  # of each column's point from each row's line
    earlier = np.arange(count)[:, None] < np.arange(count)
    higher = (height[:, None] > height) | ((height[:, None] == height) & earlier)
    pixels = np.tile(LENGTHS, BANK.scale.size // len(LENGTHS))[code[y, x]]
    mean = height / (BANK.scale.ravel()[code[y, x]] * pixels)  # S/N of each pixel of an even line
    covered = (higher & (apart <= COVER_PX) & (snr[y, x] <= 2 * mean[:, None] + 2)).any(0)
    found = line_peaks(value, code, snr.astype(np.float32), BANK.scale, 1.0)
    assert 20 < covered.sum() < count - 20
    np.testing.assert_array_equal(np.stack([found.y, found.x]), np.stack([y, x])[:, ~covered])


def test_peaks_are_apart_and_sorted():
    found = peaks_of(np.random.default_rng(1).normal(size=(400, 400)), floor=3.0)
    order = np.lexsort((found.x, found.y))
    np.testing.assert_array_equal(order, np.arange(len(order)))
    gap = np.maximum(np.abs(found.x[:, None] - found.x), np.abs(found.y[:, None] - found.y))
    assert gap[~np.eye(len(gap), dtype=bool)].min() > APART


def test_correlated_noise_alone_gives_as_many_as_it_should():
    rng, side, images = np.random.default_rng(7), 1100, 4
    kernel = np.zeros((11, 11))
    kernel[5, 5] = 1
    kernel = gaussian_filter(kernel, 0.6)
    kernel /= np.sqrt(np.sum(kernel**2))
    from scipy.signal import fftconvolve

    correlation = fftconvolve(kernel, kernel[::-1, ::-1])[7:14, 7:14]
    bank = line_bank(2.3, correlation)
    inner, count = side - 100, 0
    for _ in range(images):
        image = fftconvolve(rng.normal(size=(side, side)), kernel, mode="same")
        found = peaks_of(image, 4.6, bank)
        inside = (np.minimum(found.x, found.y) >= 50) & (np.maximum(found.x, found.y) < side - 50)
        count += int(inside.sum())
    # 32 directions and 8 lengths are a bank as fine as the one behind the formula, to a factor.
    expected = images * false_alarms(4.6, inner**2)
    assert 0.5 * expected < count < 1.6 * expected


def test_the_same_wherever_the_image_is_cut():
    image = np.random.default_rng(5).normal(size=(360, 380))
    image += trail(190, 180, 40, 30, 15, image.shape) + trail(215, 200, 20, 120, 12, image.shape)
    whole, part = peaks_of(image, 3.5), peaks_of(image[31:350, 17:371], 3.5)

    def inner(found, dy, dx):
        rows = zip(
            (found.y + dy).tolist(), (found.x + dx).tolist(), found.code.tolist(), found.snr.tolist(), strict=True
        )
        low, high = (31 + PEAK_REACH, 17 + PEAK_REACH), (350 - PEAK_REACH, 371 - PEAK_REACH)
        return [row for row in rows if low[0] <= row[0] < high[0] and low[1] <= row[1] < high[1]]

    assert inner(whole, 0, 0) == inner(part, 31, 17)
    assert len(inner(whole, 0, 0)) > 10


def of(values, point=5.0, shape=(60, 90)):
    """Peaks of a map that is 0 but for some pixels: (y, x) -> value and code; S/N of all points is the same."""
    value, code = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    for place, (height, line) in values.items():
        value[place], code[place] = height, line
    found = line_peaks(value, code, np.full(shape, point, np.float32), BANK.scale, 4.0)
    return list(zip(found.y.tolist(), found.x.tolist(), strict=True))


def test_a_peak_is_the_highest_of_the_square_that_reaches_3_px():
    for y, x in ((30, 33), (33, 30), (33, 33), (33, 27), (30, 27), (27, 30), (27, 27), (27, 33)):
        assert of({(30, 30): (9, 0), (y, x): (8, 0)}) == [(30, 30)]
        assert of({(30, 30): (9, 0), (y, x): (9, 0)}) == [min((30, 30), (y, x))]  # of equals the first
    for y, x in ((30, 34), (34, 30), (34, 27), (33, 26)):
        assert of({(30, 30): (9, 0), (y, x): (8, 0)}) == [(30, 30), (y, x)]
    corners = {(0, 0): (9, 0), (0, 89): (9, 0), (59, 0): (9, 0), (59, 89): (9, 0), (1, 88): (8, 0), (58, 1): (8, 0)}
    assert of(corners) == [(0, 0), (0, 89), (59, 0), (59, 89)]
    assert of({(20, 20): (4.0, 0), (40, 40): (3.999, 0)}) == [(20, 20)]  # the floor itself is enough
    assert APART == 3


def test_a_line_covers_2_and_a_half_px_around_it():
    line = len(LENGTHS) - 1  # 48 px along x
    top = {(30, 40): (50.0, line)}
    for dy, dx, covered in (
        (2, 10, True), (3, 10, False), (-2, -20, True), (-3, -20, False), (0, 26, True), (0, 27, False),
        (0, -26, True), (0, -27, False), (2, 25, True), (2, 26, False),
    ):  # fmt: skip
        other = (30 + dy, 40 + dx)
        assert of(top | {other: (20.0, 0)}) == ([(30, 40)] if covered else sorted([(30, 40), other]))
    assert COVER_PX == 2.5
    level = 50.0 / (BANK.scale[0, 0, -1] * 48)
    for point, covered in ((2 * level + 1.99, True), (2 * level + 2.01, False)):
        found = of(top | {(30, 60): (20.0, 0)}, point)
        assert found == ([(30, 40)] if covered else [(30, 40), (30, 60)])


@pytest.mark.parametrize(("frame", "rise"), [(0, 0), (0, 8), (1, 8), (1, 3), (2, 0), (2, 5), (3, 1), (3, 7)])
def test_a_line_of_any_direction_covers_to_its_ends(frame, rise):
    code = (frame * (STEPS + 1) + rise) * len(LENGTHS) + len(LENGTHS) - 1
    _, _, length, angle = every_line()[code]
    for share in (-0.98, -0.5, 0.5, 0.98):
        dx = round(share * length / 2 * np.cos(np.radians(angle)))
        dy = round(share * length / 2 * np.sin(np.radians(angle)))
        line, other = (50, 60), (50 + dy, 60 + dx)
        assert of({line: (50.0, code), other: (30.0, 0)}, 1.0, (110, 120)) == [line]
        assert of({line: (50.0, code), other: (60.0, 0)}, 1.0, (110, 120)) == sorted([line, other])


def test_the_reach_of_a_peak_is_what_its_line_its_rivals_and_their_lines_see():
    """24 px of a sum and 8 px of the filter, twice 3 px of rivals, the longest line that covers it, and 4 px."""
    assert PEAK_REACH == (24 + 8) + 2 * 3 + 36 + 4
