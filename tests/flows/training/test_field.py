import numpy as np
import pytest

from flows.adapters.zarr_tiles import TileStore
from flows.training.examples import Wanted, make_examples
from flows.training.field import open_field
from schemas.mask import UNUSABLE
from tests.flows.training.field_support import field_of


def test_pixels_are_those_of_the_tiles_mapped(examples):
    field, store = open_field(examples[0]), TileStore.open(examples[0].store)
    np.testing.assert_array_equal(field.pixels, store.read_all("difference"))
    np.testing.assert_array_equal(field.usable, (store.read_all("mask") & UNUSABLE) == 0)
    assert isinstance(field.pixels, np.memmap)
    assert field.info == store.info
    assert field.name == examples[0].store.stem
    assert len(field.targets.x) == len(field.snr) == examples[0].truth.num_rows


def test_they_are_unpacked_once(tmp_path):
    (example,) = make_examples(tmp_path, Wanted("ztf", 1, 2, (120, 130)), 5, 1)
    open_field(example)
    files = sorted(tmp_path.glob("*.npy"))
    before = [path.stat().st_mtime_ns for path in files]
    open_field(example)
    assert len(files) == 2
    assert [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.parametrize(
    ("kind", "snr", "visible", "wanted", "dark"),
    [
        ("streak", 5.0, 1.0, True, False),
        ("streak", 4.0, 1.0, False, False),
        ("streak", 5.0, 0.4, False, False),
        ("streak", -5.0, 1.0, False, True),
        ("point", 50.0, 1.0, False, False),
        ("satellite", 50.0, 1.0, False, False),
    ],
)
def test_what_is_to_be_found(kind, snr, visible, wanted, dark):
    field = field_of(np.zeros((50, 50)), [(kind, 20.0, 20.0, 3.0, 0.0, snr, visible)])
    assert (field.wanted.tolist(), field.dark.tolist()) == ([wanted], [dark])
