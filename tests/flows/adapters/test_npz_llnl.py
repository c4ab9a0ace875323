import hashlib

import numpy as np
import pytest

from flows.adapters.npz_llnl import image_count, is_truth, read_stack_image, stack_key
from flows.adapters.sources import list_sources
from flows.ingest import prepare
from schemas.errors import BadInput
from schemas.settings import Settings


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "asteroid_difference_images_12.npz"
    images = np.random.default_rng(1).normal(0, 5, (3, 60, 70))
    np.savez(path, data=images)
    return str(path), images


def test_each_image_is_an_exposure_without_time_place_or_scale(stack):
    path, images = stack
    assert image_count(path) == 3
    for index, source in enumerate(list_sources([path], Settings())):
        info, planes = prepare(source, Settings())
        assert (info.visit, info.detector) == (12000 + index, 0)
        assert info.flags == ("assumed_psf", "no_time", "no_wcs", "no_zero_point")
        assert (info.wcs_header, info.zero_point) == (None, None)
        np.testing.assert_array_equal(planes["difference"], images[index].astype(np.float32))
        assert info.source_uri == f"{path}[{index}]"


def test_the_digest_is_of_the_image_alone(stack, tmp_path):
    path, images = stack
    digests = {read_stack_image(path, index).source_sha256 for index in range(3)}
    assert len(digests) == 3
    other = tmp_path / "asteroid_difference_images_13.npz"
    np.savez_compressed(other, data=images[1:])
    assert read_stack_image(str(other), 0).source_sha256 == read_stack_image(path, 1).source_sha256
    expected = hashlib.sha256(b"((60, 70), '<f8')" + images[0].tobytes()).hexdigest()
    assert read_stack_image(path, 0).source_sha256 == expected


def test_visits_of_different_files_differ():
    keys = {
        stack_key(f"/d/{name}.npz", index).visit
        for name in ("images_1", "images_2", "images_10", "night", "field")
        for index in (0, 99, 999)
    }
    assert len(keys) == 15
    assert max(keys) < 2**42


def test_the_longest_visit_fits():
    assert stack_key("x_999999999.npz", 999).visit < 2**42
    assert 1000 * (2**32 - 1) + 999 < 2**42  # CRC-32 of a name without a number


@pytest.mark.parametrize("index", [None, -1, 1000])
def test_no_such_image(index):
    with pytest.raises(BadInput, match="must be 0 to 999"):
        stack_key("x_1.npz", index)


def test_truth_is_no_exposure():
    assert is_truth("/d/asteroid_injected_information_3.npz")
    assert not is_truth("/d/asteroid_difference_images_3.npz")
