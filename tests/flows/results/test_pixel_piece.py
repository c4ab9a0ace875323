import numpy as np
import pytest

from flows.results.pixel_piece import find_exposure, image_piece, square_piece
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore, write_exposure
from kernels.sky.projection import celestial_wcs
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.pixels import MaskPlane
from schemas.settings import TileSettings
from tests.flows.results.page.conftest import make_info

SHAPE = (40, 50)
KEY = ExposureKey(night="20261103", visit=101, detector=3)
RNG = np.random.default_rng(4)
PLANES = {
    "difference": RNG.normal(0, 5, SHAPE).astype(np.float32),
    "variance": RNG.uniform(20, 30, SHAPE).astype(np.float32),
    "science": RNG.normal(100, 5, SHAPE).astype(np.float32),
    "mask": RNG.integers(0, 4, SHAPE).astype(np.uint16),
}


def put(out, planes=PLANES, **changes):
    further = tuple(name for name in planes if name not in ("difference", "mask"))
    info = make_info(SHAPE, planes=further, **changes)
    key = ExposureKey(night=info.night, visit=info.visit, detector=info.detector)
    write_exposure(tile_path(out, key), info, planes, TileSettings(tile=28, chunk=28), "a" * 64)
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return put(tmp_path_factory.mktemp("out"))


def same(piece, plane, where):
    """Whether a piece is that part of the planes."""
    np.testing.assert_array_equal(piece.data, PLANES[plane][where])
    np.testing.assert_array_equal(piece.bits, PLANES["mask"][where])
    assert (piece.plane, piece.y0, piece.x0) == (plane, where[0].start or 0, where[1].start or 0)


@pytest.mark.parametrize("where", [np.s_[:, :], np.s_[3:4, 49:50], np.s_[10:30, 5:45]])
@pytest.mark.parametrize("plane", ["difference", "science", "mask"])
def test_a_section_is_that_of_the_stored_planes(out, plane, where):
    same(image_piece(out, KEY, plane, where), plane, where)


def test_all_of_an_image_is_read_where_no_section_is_named(out):
    same(image_piece(out, KEY), "difference", np.s_[:, :])
    np.testing.assert_array_equal(image_piece(out, KEY, section=np.s_[-5:, :]).data, PLANES["difference"][-5:])


def test_the_variance_goes_with_the_difference_image_alone(out, tmp_path):
    np.testing.assert_array_equal(image_piece(out, KEY, section=np.s_[2:9, 4:8]).variance, PLANES["variance"][2:9, 4:8])
    assert image_piece(out, KEY, "science").variance is None
    assert image_piece(out, KEY, "mask").variance is None
    without = {name: PLANES[name] for name in ("difference", "mask")}
    assert image_piece(put(tmp_path, without), KEY).variance is None


def test_the_mask_as_data_is_a_copy(out):
    piece = image_piece(out, KEY, "mask")
    piece.data[:] = 7
    np.testing.assert_array_equal(piece.bits, PLANES["mask"])


@pytest.mark.parametrize(("side", "first"), [(1, (20, 25)), (4, (18, 23)), (5, (18, 23))])
def test_a_square_lies_about_its_place(out, side, first):
    piece = square_piece(TileStore.open(tile_path(out, KEY)), "science", 20.4, 24.6, side)
    same(piece, "science", np.s_[first[0] : first[0] + side, first[1] : first[1] + side])


@pytest.mark.parametrize(("y", "x"), [(0, 0), (39, 49), (0, 49), (39, 0), (20, 49), (-3, 20)])
def test_beyond_the_image_a_square_is_blank(out, y, x):
    store, around = TileStore.open(tile_path(out, KEY)), np.pad(PLANES["science"], 20, constant_values=np.nan)
    piece = square_piece(store, "science", y, x, 9)
    np.testing.assert_array_equal(piece.data, around[y + 16 : y + 25, x + 16 : x + 25])
    assert (piece.bits[np.isnan(piece.data)] == MaskPlane.NO_DATA).all()
    bits = np.pad(PLANES["mask"], 20, constant_values=int(MaskPlane.NO_DATA))[y + 16 : y + 25, x + 16 : x + 25]
    np.testing.assert_array_equal(piece.bits, bits)


def test_the_world_of_a_piece_is_that_of_the_image(out):
    piece = image_piece(out, KEY, section=np.s_[7:30, 11:40])
    whole = celestial_wcs(piece.info.wcs_header)
    np.testing.assert_allclose(piece.wcs.all_pix2world(2.5, 3.5, 0), whole.all_pix2world(13.5, 10.5, 0), atol=1e-10)


def test_without_a_world_a_piece_has_none(tmp_path):
    assert image_piece(put(tmp_path, wcs_header=None), KEY).wcs is None


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (np.s_[::2, :], "is not a range of pixels"), ((3, slice(None)), "is not a range of pixels"),
        (np.s_[5:5, :], "has no pixel of an axis of 40"), (np.s_[:, 50:], "has no pixel of an axis of 50"),
    ],
)  # fmt: skip
def test_what_is_no_section_is_refused(out, section, says):
    with pytest.raises(Misconfigured, match=says) as caught:
        image_piece(out, KEY, section=section)
    assert caught.value.code == "bad_section"
    same(image_piece(out, KEY, section=np.s_[::1, :]), "difference", np.s_[:, :])


def test_a_large_image_is_not_read_unawares(out, monkeypatch):
    monkeypatch.setattr("schemas.pixels.WHOLE_PIXELS", 1000)
    with pytest.raises(Misconfigured, match="is 40 x 50 px") as caught:
        image_piece(out, KEY)
    assert caught.value.code == "large_image"
    same(image_piece(out, KEY, section=np.s_[:, :]), "difference", np.s_[:, :])


def test_a_plane_that_is_not_there_is_named(out):
    with pytest.raises(Misconfigured, match="has no plane 'template'") as caught:
        image_piece(out, KEY, "template")
    assert caught.value.code == "no_plane"


@pytest.mark.parametrize(("side", "good"), [(0, False), (1, True), (6144, True), (6145, False)])
def test_a_square_has_1_to_6144_px(out, side, good):
    store = TileStore.open(tile_path(out, KEY))
    if good:
        assert square_piece(store, "mask", 20, 25, side).data.shape == (side, side)
    else:
        with pytest.raises(Misconfigured, match="is not 1 to 6144 px"):
            square_piece(store, "mask", 20, 25, side)


def test_an_exposure_is_found_in_its_night(tmp_path):
    nights = ("20261103", "20261104")
    for night in nights:
        put(tmp_path, night=night)
    put(tmp_path, visit=0, detector=0)
    put(tmp_path, visit=2**42 - 1, detector=2**9 - 1)
    assert find_exposure(tmp_path, nights[:1], 101, 3) == KEY
    assert find_exposure(tmp_path, nights, 0, 0).night == nights[0]
    assert find_exposure(tmp_path, nights, 2**42 - 1, 2**9 - 1).detector == 511
    with pytest.raises(Misconfigured, match="of the nights 20261103, 20261104") as caught:
        find_exposure(tmp_path, nights, 101, 3)
    assert caught.value.code == "several_nights"
    for visit, detector in ((102, 3), (-1, 3), (101, -1), (2**42, 3), (101, 2**9)):
        with pytest.raises(Misconfigured, match=f"no pixels of visit {visit}, detector {detector}"):
            find_exposure(tmp_path, nights, visit, detector)
