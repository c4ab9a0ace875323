import gc
import threading

import numpy as np
import pytest
import torch

from kernels.fused_torch import TorchSearch
from kernels.fused_torch_stream import SLOTS, HostImage, TorchStream
from schemas.tiles import Tiling
from tests.kernels.torch_support import DEVICES, lively_net, messy_image


def images(count):
    """Of different sizes, all but the last."""
    made = []
    for seed in range(count):
        image, usable, background = messy_image((131 - seed % 4 * 8, 150 - seed % 3 * 10), seed=seed)
        made.append(HostImage(image, usable, background, Tiling(usable.shape).grid))
    return made


def expected(search, image):
    logits, unscored = search.search(image.image, image.usable, image.background, image.grid, 7)
    index = np.flatnonzero(logits > -np.inf if search.floor is None else logits >= search.floor)
    return index, logits[index], unscored


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, SLOTS, 9])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_hits_are_those_of_one_image_after_the_other(device, count, precision):
    search = TorchSearch(lively_net()[1], torch.device(device), precision, floor=0.1)
    given = images(count)
    with TorchStream(search, 7, (1, 131, 150)) as stream:
        found = list(stream.search(given))
        again = list(stream.search(given))
    assert len(found) == count
    for hits, twice, image in zip(found, again, given, strict=True):
        index, logit, unscored = expected(search, image)
        assert len(index) > 0
        np.testing.assert_array_equal(hits.index, index)
        np.testing.assert_allclose(hits.logit, logit, rtol=1e-5)
        np.testing.assert_array_equal(hits.logit, twice.logit)
        assert hits.unscored == unscored


def test_without_a_floor_every_scored_window_comes_back():
    search = TorchSearch(lively_net()[1], torch.device("cpu"))
    (image,) = images(1)
    with TorchStream(search, 7, image.image.shape) as stream:
        (hits,) = stream.search([image])
    assert len(hits.index) + hits.unscored == image.grid[0] * image.grid[1]
    assert hits.unscored > 0


def test_images_are_read_ahead_in_another_thread_but_no_farther_than_there_is_room():
    search = TorchSearch(lively_net()[1], torch.device("cpu"))
    read, threads = [], set()

    def source():
        for number, image in enumerate(images(8)):
            threads.add(threading.get_ident())
            read.append(number)
            yield image

    with TorchStream(search, 7, (1, 131, 150)) as stream:
        for number, _ in enumerate(stream.search(source())):
            assert len(read) <= number + 1 + SLOTS
    assert read == list(range(8))
    assert threads.isdisjoint({threading.get_ident()})


def test_an_error_of_the_source_is_raised_after_the_images_before_it():
    search = TorchSearch(lively_net()[1], torch.device("cpu"))

    def source():
        yield from images(2)
        raise OSError("the disk is gone")

    found = []
    with TorchStream(search, 7, (1, 131, 150)) as stream, pytest.raises(OSError, match="disk is gone"):
        found.extend(hits.unscored for hits in stream.search(source()))
    assert len(found) == 2


def test_stopping_early_leaves_no_thread():
    search = TorchSearch(lively_net()[1], torch.device("cpu"))
    before = threading.active_count()
    with TorchStream(search, 7, (1, 131, 150)) as stream:
        hits = stream.search(images(8))
        next(hits)
        hits.close()
    assert threading.active_count() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_memory_of_the_device_is_given_back():
    def whole():
        search = TorchSearch(lively_net()[1], torch.device("cuda"), "bfloat16", floor=0.1)
        with TorchStream(search, 7, (1, 131, 150)) as stream:
            return sum(len(hits.index) for hits in stream.search(images(6)))

    whole()  # the matrix library takes a workspace, once, and keeps it
    gc.collect()
    before = torch.cuda.memory_allocated()
    assert whole() > 0
    gc.collect()
    assert torch.cuda.memory_allocated() == before
