import zlib

import numpy as np
import pytest

from kernels.image.tile_copy import TileCopy, area_of, cells, copying_memory, drawn_tiles
from schemas.settings import InjectSettings
from schemas.stage import EXPOSURE_PIXEL
from tests.support.exposure import exposure_info

EXPOSURE = exposure_info((3080, 3072), visit=7, detector=3, fwhm_px=2.2, background=2.0, noise=5.0)


@pytest.mark.parametrize(
    ("shape", "count"), [((3080, 3072), 9), ((200, 210), 1), ((4072, 4000), 16), ((1513, 1511), 2), ((9, 30), 1)]
)
def test_cells_share_out_every_pixel_once_and_evenly(shape, count):
    boxes = cells(shape, 1008)
    seen = np.zeros(shape, int)
    for y0, x0, y1, x1 in boxes:
        seen[y0:y1, x0:x1] += 1
    assert (seen == 1).all()
    assert len(boxes) == count
    sides = np.array([(y1 - y0, x1 - x0) for y0, x0, y1, x1 in boxes])
    assert (np.ptp(sides, axis=0) <= 1).all()
    assert boxes == sorted(boxes)


def test_random_numbers_are_those_of_the_exposure_and_the_tile():
    drawn = {tile: rng.uniform(size=4).tolist() for tile, _, rng in drawn_tiles(EXPOSURE, 1.0, zlib.crc32(b"some"))}
    assert len(drawn) == 9
    for tile, found in drawn.items():
        rng = np.random.default_rng([zlib.crc32(b"some"), 20260101, 7, 3, tile])
        rng.uniform()  # by which it is drawn
        assert found == rng.uniform(size=4).tolist()


def test_shares_and_purposes_draw_tiles_of_their_own():
    exposures = [EXPOSURE.model_copy(update={"visit": visit}) for visit in range(60)]

    def drawn(share, purpose=1):
        return {(one.visit, tile) for one in exposures for tile, _, _ in drawn_tiles(one, share, purpose)}

    assert drawn(0.0) == set()
    assert drawn(0.1) < drawn(0.3)
    assert len(drawn(0.3)) == pytest.approx(0.3 * 540, abs=4 * np.sqrt(0.21 * 540))
    assert len(drawn(0.3) & drawn(0.3, 2)) == pytest.approx(0.09 * 540, abs=4 * np.sqrt(0.09 * 540))


def test_areas_are_in_units_of_a_usual_tile():
    assert area_of((0, 0, 1008, 1008)) == 1
    assert area_of((100, 300, 604, 1308)) == 0.5


def test_memory_is_that_of_the_exposure_and_a_copy():
    for shape, copied in (((3000, 2000), 1700 * 1700), ((900, 2000), 900 * 1700), ((2000, 900), 1700 * 900)):
        assert copying_memory(shape, InjectSettings()) == shape[0] * shape[1] * 16 + copied * EXPOSURE_PIXEL
        assert copying_memory(shape, InjectSettings(share=0)) == 0


def test_a_copy_is_a_part_of_the_detector_without_a_place_on_the_sky():
    box = 100, 200, 300, 350
    copy = TileCopy(2, box, 80, 180, {"difference": np.zeros((240, 190), np.float32)}, (0, 0, 240, 190))
    made = copy.exposure(EXPOSURE.model_copy(update={"wcs_header": "CTYPE1  = 'RA---TAN'"}))
    assert (made.shape, made.is_part, made.wcs_header) == ((240, 190), True, None)
    assert not EXPOSURE.is_part
