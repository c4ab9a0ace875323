import asyncio
import base64
import hashlib
from contextlib import asynccontextmanager

import numpy as np
import pytest
from astropy.io import fits

from flows.inputs.archive.client import Answer, ArchiveClient, RemoteFile, TryAgain
from flows.inputs.archive.download import _go_on, download, few_at_a_time
from schemas.errors import BadInput, Retryable

pytest_plugins = ("tests.support.archive_fixture",)


PLACE = "sci/2018/0411/467847/ztf_20180411467847_000600_zr_c05_o_q2_sciimg.fits"


@pytest.fixture
def large(archive, tmp_path):
    """Bytes of an image of 5 MB with checksums, in the archive at PLACE."""
    path = tmp_path / "made.fits"
    fits.PrimaryHDU(np.random.default_rng(5).normal(0, 1, (1200, 1100)).astype(np.float32)).writeto(path, checksum=True)
    archive.files[PLACE] = path.read_bytes()
    return archive.files[PLACE]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "night" / PLACE


def fetch(settings, target, place=PLACE):
    """Download a file; give the bytes that came through the network and what was told of the progress."""
    told = []

    async def run():
        async with ArchiveClient(settings) as client:
            await download(client, await client.probe(place), target, told.append)
            return client.received

    return asyncio.run(run()), told


def parts(target):
    return sorted(target.parent.glob(".*.part"))


def test_file_comes_whole_with_its_progress(settings, large, target):
    received, told = fetch(settings, target)
    assert target.read_bytes() == large
    assert received == sum(told) == len(large)
    assert parts(target) == []


def test_cut_connections_are_gone_on_with(archive, settings, large, target):
    def cut(place, number, headers):
        return ("cut", 1_200_000) if headers.get("Range") != "bytes=0-0" else None

    archive.trouble = cut
    received, told = fetch(settings.model_copy(update={"retries": 0}), target)
    assert target.read_bytes() == large
    assert received == sum(told) == len(large)
    starts = [headers.get("Range") for place, headers in archive.asked if place == PLACE][1:]
    assert starts == [None, *(f"bytes={n * 1_200_000}-" for n in (1, 2, 3, 4))]


def test_what_an_earlier_call_left_is_not_fetched_again(archive, settings, large, target):
    archive.trouble = lambda place, number, headers: (
        None if headers.get("Range") == "bytes=0-0" else ("cut", 900_000) if number == 2 else 503
    )
    with pytest.raises(Retryable) as caught:
        fetch(settings, target)
    assert caught.value.code == "archive_error"
    assert not target.exists()
    (part,) = parts(target)
    assert part.stat().st_size == 900_000
    archive.trouble, archive.sent = None, 0
    received, told = fetch(settings, target)
    assert target.read_bytes() == large
    assert received == len(large) - 900_000
    assert sum(told) == len(large)


def test_another_version_is_fetched_from_its_beginning(archive, settings, large, target):
    archive.trouble = lambda place, number, headers: (
        None if headers.get("Range") == "bytes=0-0" else ("cut", 900_000) if number == 2 else 503
    )
    with pytest.raises(Retryable):
        fetch(settings, target)
    archive.trouble = None
    newer = bytearray(large)
    newer[-5000:-4000] = bytes(1000)
    path = target.parent / "made.fits"
    path.write_bytes(newer)
    with fits.open(path, mode="update") as hdus:
        hdus[0].add_checksum()
    archive.files[PLACE] = path.read_bytes()
    assert fetch(settings, target)[0] == len(large)
    assert target.read_bytes() == archive.files[PLACE]
    assert parts(target) == []


def test_a_version_that_changes_under_way_is_begun_again(archive, settings, large, target):
    """If-Range: after the cut the archive sends all of the new file, which has the same length."""
    path = target.parent
    path.mkdir(parents=True)
    fits.PrimaryHDU(np.zeros((1200, 1100), np.float32)).writeto(path / "made.fits", checksum=True)
    newer = (path / "made.fits").read_bytes()
    assert len(newer) == len(large)

    def change(place, number, headers):
        if number == 2:
            return ("cut", 900_000)
        if number == 3:
            archive.files[PLACE] = newer
        return None

    archive.trouble = change
    received, told = fetch(settings, target)
    assert target.read_bytes() == newer
    assert (received, sum(told)) == (900_000 + len(newer), len(newer))


def test_an_archive_without_ranges_begins_again(archive, settings, large, target):
    archive.ranges = False
    archive.trouble = lambda place, number, headers: ("cut", 900_000) if number == 2 else None
    received, told = fetch(settings, target)
    assert target.read_bytes() == large
    assert sum(told) == len(large)
    assert received == len(large) + 900_000


@pytest.mark.parametrize("kind", ["fits", "digest"])
def test_damage_is_found_and_fetched_again(archive, settings, large, target, kind):
    """Without a digest it is CHECKSUM and DATASUM that tell."""
    damaged = bytearray(large)
    damaged[3_000_000] ^= 1
    if kind == "digest":
        stated = "sha-256=:" + base64.b64encode(hashlib.sha256(large).digest()).decode() + ":"
        archive.headers = lambda data: {"ETag": '"same"', "Repr-Digest": stated}
        cards = bytes(large).replace(b"CHECKSUM", b"COMMENT ").replace(b"DATASUM ", b"COMMENT ")
        damaged = bytearray(cards)
    else:
        archive.headers = lambda data: {"ETag": '"same"'}

    def swap(place, number, headers):
        archive.files[PLACE] = bytes(damaged) if number == 2 else large

    archive.trouble = swap
    received, told = fetch(settings, target)
    assert target.read_bytes() == large
    assert (received, sum(told)) == (2 * len(large), len(large))


@pytest.mark.parametrize(
    ("content", "code"), [(b"<html>login</html>" * 300, "not_fits"), (None, "bad_checksum"), (b"cut", "truncated")]
)
def test_what_is_always_wrong_is_never_published(archive, settings, large, target, content, code):
    damaged = bytearray(large)
    damaged[3_000_000] ^= 1
    archive.files[PLACE] = {None: bytes(damaged), b"cut": large[:-100_000]}.get(content, content)
    with pytest.raises(BadInput) as caught:
        fetch(settings, target)
    assert caught.value.code == code
    assert archive.counts[PLACE] == 1 + 1 + settings.retries
    assert [path for path in target.parent.rglob("*") if path.is_file()] == []


class Endless:
    """An archive that sends on and on."""

    def __init__(self):
        self.sent = 0

    def read(self, file, start):
        @asynccontextmanager
        async def answer():
            yield Answer(start, None, self.chunks())

        return answer()

    async def chunks(self):
        while True:
            self.sent += 2**20
            yield bytes(2**20)


def test_what_sends_on_and_on_does_not_fill_the_disk(tmp_path):
    client, part = Endless(), tmp_path / "x.part"
    with pytest.raises(TryAgain) as caught:
        asyncio.run(_go_on(client, RemoteFile("https://there/x.fits", 3 * 2**20, None), part, lambda count: None))
    assert caught.value.__cause__.code == "wrong_size"
    assert client.sent == 4 * 2**20
    assert not part.exists()


def test_a_file_that_has_gone_is_said_so(archive, settings, large, target):
    archive.trouble = lambda place, number, headers: 404 if number == 2 else None
    with pytest.raises(BadInput) as caught:
        fetch(settings, target)
    assert caught.value.code == "gone"


def test_all_is_done_a_few_at_a_time_in_order():
    busy, most, begun = 0, 0, []

    async def work(item):
        nonlocal busy, most
        begun.append(item)
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    asyncio.run(few_at_a_time(range(20), work, 3))
    assert begun == list(range(20))
    assert most == 3


def test_the_first_error_stops_all():
    begun = []

    async def work(item):
        begun.append(item)
        if item == 2:
            raise ValueError("two")
        await asyncio.sleep(3600)

    with pytest.raises(ValueError, match="two"):
        asyncio.run(few_at_a_time(range(9), work, 3))
    assert begun == [0, 1, 2]


class Once:
    """An archive that answers each time from the byte of its choice, with a state of its own of the whole."""

    def __init__(self, start, content=b""):
        self.start, self.content, self.asked = start, content, []

    def read(self, file, start):
        self.asked.append(start)

        @asynccontextmanager
        async def answer():
            yield Answer(self.start, None, self.chunks())

        return answer()

    async def chunks(self):
        yield self.content


@pytest.mark.parametrize(("there", "start", "code"), [(5, 6, "bad_answer"), (5, 5, "cut"), (5, 0, "cut")])
def test_an_answer_may_begin_where_the_file_ends_or_before_and_a_cut_leaves_what_came(tmp_path, there, start, code):
    part, told = tmp_path / "x.part", []
    part.write_bytes(bytes(there))
    client = Once(start, b"ab")
    with pytest.raises((BadInput, TryAgain)) as caught:
        asyncio.run(_go_on(client, RemoteFile("https://there/x.fits", 9, None), part, told.append))
    error = caught.value if code == "bad_answer" else caught.value.__cause__
    assert error.code == code
    assert client.asked == [there]
    assert part.read_bytes() == (bytes(there) if code == "bad_answer" else bytes(start) + b"ab")
    assert sum(told) == part.stat().st_size - there


def test_what_is_there_whole_is_checked_and_not_asked_for(large, tmp_path):
    part, client = tmp_path / "x.part", Once(0)
    part.write_bytes(large)
    asyncio.run(_go_on(client, RemoteFile("https://there/x.fits", len(large), None), part, lambda count: None))
    assert client.asked == []
