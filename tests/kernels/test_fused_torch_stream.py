import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

import kernels.fused_torch_stream
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


def quiet_stream():
    return TorchStream(TorchSearch(lively_net()[1], torch.device("cpu")), 7, (1, 131, 150))


def test_a_closed_stream_says_so():
    with quiet_stream() as stream:
        unread, begun = stream.search(images(2)), stream.search(images(2))
        next(begun)
    for late in (lambda: list(unread), lambda: list(begun), lambda: stream.search(images(2))):
        with pytest.raises(RuntimeError, match="closed"):
            late()


def test_two_searches_do_not_share_the_slots():
    with quiet_stream() as stream:
        first = stream.search(images(2))
        next(first)
        with pytest.raises(RuntimeError, match="already"):
            next(stream.search(images(2)))
        assert len(list(first)) == 1
        assert len(list(stream.search(images(2)))) == 2


def broken_source():
    yield from images(1)
    raise OSError("the disk is gone")


def too_large():
    (image,) = images(1)
    yield replace(image, image=np.zeros((1, 400, 400), np.float32), usable=np.ones((400, 400), bool))


def masked_elsewhere():
    (image,) = images(1)
    yield replace(image, usable=image.usable[:50])


def fail(source, memory):
    with quiet_stream() as stream:
        memory.extend(storages(stream))
        list(stream.search(source()))


@pytest.mark.parametrize("source", [broken_source, too_large, masked_elsewhere])
def test_memory_is_given_back_while_the_error_is_still_at_hand(source):
    threads, memory = threading.active_count(), []
    gc.disable()
    try:
        with pytest.raises((OSError, RuntimeError)) as caught:
            fail(source, memory)
        assert len(memory) == 4 * SLOTS
        assert all(one.expired() for one in memory)
    finally:
        gc.enable()
    assert threading.active_count() == threads
    assert caught.value.__traceback__ is not None


def test_memory_is_given_back_with_a_search_left_open():
    threads = threading.active_count()
    with quiet_stream() as stream:
        memory = storages(stream)
        hits = stream.search(images(8))
        next(hits)
    assert all(one.expired() for one in memory)
    assert threading.active_count() == threads
    with pytest.raises(RuntimeError, match="closed"):
        next(hits)


def storages(stream):
    return [StorageWeakRef(each.untyped_storage()) for slot in stream._slots for each in (*slot.host, *slot.device)]


@pytest.mark.parametrize("end", ["close the search", "close the stream"])
def test_what_is_not_wanted_any_more_is_not_read(end, monkeypatch):
    read, stopping = [], threading.Event()

    class Reader(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            stopping.set()
            super().shutdown(wait=wait)

    def source():
        for number, image in enumerate(images(8)):
            read.append(number)
            if number == 1:
                stopping.wait()
            yield image

    monkeypatch.setattr(kernels.fused_torch_stream, "ThreadPoolExecutor", Reader)
    with quiet_stream() as stream:
        hits = stream.search(source())
        next(hits)
        if end == "close the search":
            hits.close()
    assert read == [0, 1]


@pytest.mark.parametrize("named", [True, False])
def test_caches_of_the_device_and_of_the_host_are_emptied(named, monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("device"))
    monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: emptied.append("host"), raising=False)
    monkeypatch.setattr(torch.accelerator, "empty_host_cache", lambda: emptied.append("host"), raising=False)
    if not named:
        monkeypatch.delattr(torch.accelerator, "empty_host_cache")
    kernels.fused_torch_stream._empty_caches()
    assert emptied == ["device", "host"]


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
