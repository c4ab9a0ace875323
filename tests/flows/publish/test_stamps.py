import numpy as np
import pytest

from flows.publish import stamps as module
from flows.publish.stamps import cut_stamps
from flows.storage.zarr_tiles import TileStore, write_exposure
from schemas.pixels import MaskPlane
from schemas.settings import TileSettings
from tests.support.alert_night import exposure_planes, info_of

SHAPE = (200, 230)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("stamps") / "100-0.zarr"
    info = info_of(0, shape=SHAPE)
    planes = exposure_planes(info, [50.0], [60.0], 1)
    planes["mask"][60, 50] = MaskPlane.SAT
    write_exposure(path, info, planes, TileSettings(tile=84, chunk=28), "d")
    return TileStore.open(path), planes


def places(count):
    rng = np.random.default_rng(2)
    return rng.uniform(0, SHAPE[1] - 1, count), rng.uniform(0, SHAPE[0] - 1, count)


@pytest.mark.parametrize("count", [4, 400], ids=["read one by one", "planes in memory"])
def test_squares_are_what_a_padded_image_has(stored, count):
    store, planes = stored
    x, y = places(count)
    x[:2], y[:2] = (0.2, SHAPE[1] - 1), (0.4, SHAPE[0] - 1)
    side = np.where(np.arange(count) % 3 == 0, 31, 30)
    pad = 40
    outside = {"mask": int(MaskPlane.EDGE | MaskPlane.NO_DATA)}
    wide = {name: np.pad(plane, pad, constant_values=outside.get(name, np.nan)) for name, plane in planes.items()}
    seen = []
    for stamps in cut_stamps(store, x, y, side, at_once=64):
        assert len(stamps.which) <= 64
        assert (side[stamps.which] == stamps.side).all()
        for n, which in enumerate(stamps.which):
            y0, x0 = stamps.y0[n], stamps.x0[n]
            assert abs(x[which] - (x0 + (stamps.side - 1) / 2)) <= 0.5
            assert abs(y[which] - (y0 + (stamps.side - 1) / 2)) <= 0.5
            box = slice(y0 + pad, y0 + pad + stamps.side), slice(x0 + pad, x0 + pad + stamps.side)
            for name, plane in wide.items():
                np.testing.assert_array_equal(stamps.planes[name][n], plane[box])
            assert stamps.outside[n] == np.isnan(wide["difference"][box]).sum()
        seen += stamps.which.tolist()
    assert sorted(seen) == list(range(count))


def test_no_places_have_no_squares(stored):
    assert list(cut_stamps(stored[0], np.zeros(0), np.zeros(0), np.zeros(0, np.int64))) == []


@pytest.mark.parametrize("count", [2, 400], ids=["read one by one", "planes in memory"])
@pytest.mark.parametrize(
    ("x", "y"), [(-40.0, 50.0), (50.0, -40.0), (SHAPE[1] + 40.0, 50.0), (50.0, SHAPE[0] + 40.0), (-16.0, 50.0)]
)
def test_a_square_beyond_the_image_has_no_pixel(stored, count, x, y):
    for stamps in cut_stamps(stored[0], np.full(count, x), np.full(count, y), np.full(count, 31)):
        assert (stamps.outside == 31 * 31).all()
        assert (stamps.planes["mask"] == int(MaskPlane.EDGE | MaskPlane.NO_DATA)).all()
        assert np.isnan(stamps.planes["difference"]).all()


@pytest.mark.parametrize(("count", "large", "whole"), [(47, False, False), (48, False, True), (400, True, False)])
def test_planes_are_read_whole_where_squares_need_as_much(stored, monkeypatch, count, large, whole):
    """The image has 8 x 9 chunks, of which a square needs 1.5; one too large for memory is never read whole."""
    read, read_all = [], TileStore.read_all
    monkeypatch.setattr(TileStore, "read_all", lambda store, name: read.append(name) or read_all(store, name))
    monkeypatch.setattr(module, "is_large", lambda shape: large)
    assert list(cut_stamps(stored[0], *places(count), np.full(count, 31)))
    assert (read != []) is whole
