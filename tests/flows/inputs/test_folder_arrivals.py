import inspect
import os

import pytest

from flows.inputs.folder_arrivals import Arrivals, FolderArrivals
from flows.inputs.kafka_arrivals import KafkaArrivals
from schemas.errors import Misconfigured, Retryable


@pytest.mark.parametrize("kind", [FolderArrivals, KafkaArrivals])
def test_every_place_offers_what_a_stream_asks_for(kind):
    for name, wanted in vars(Arrivals).items():
        if not name.startswith("_") and inspect.isfunction(wanted):
            assert (
                inspect.signature(getattr(kind, name)).parameters.keys() == inspect.signature(wanted).parameters.keys()
            )
    assert isinstance(inspect.getattr_static(kind, "waiting"), property)


STEM = "ztf_20190922290868_000397_zi_c15_o_q4"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def arrivals(tmp_path, clock):
    return FolderArrivals(str(tmp_path), 2.0, clock=clock)


def write(folder, name, text="x"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_links_to_folders_are_followed_and_each_folder_counts_once(tmp_path, arrivals, clock):
    """A disk that is mounted elsewhere, a link to it behind that, one in circles, and one to what is there anyway."""
    disk, other, night = (tmp_path.with_name(f"{tmp_path.name}-{name}") for name in ("disk", "other", "night"))
    paths = [write(tmp_path, "a.fits"), write(tmp_path, "sub/b.fits")]
    write(disk, "c.fits")
    write(other, "deep/d.fits")
    (tmp_path / "link").symlink_to(disk)
    (disk / "more").symlink_to(other)
    (other / "round").symlink_to(tmp_path)
    (tmp_path / "twice").symlink_to(tmp_path / "sub")
    (tmp_path / "nowhere").symlink_to(night)
    arrivals.poll(9)
    clock.now = 9.0
    behind = [f"{tmp_path}/link/c.fits", f"{tmp_path}/link/more/deep/d.fits"]
    assert arrivals.poll(9) == sorted([*paths, *behind])


def test_a_folder_below_that_cannot_be_listed_is_given_and_its_images_when_it_can_be(
    tmp_path, arrivals, clock, unlisted
):
    paths = [write(tmp_path, "a.fits"), write(tmp_path, "locked/b.fits")]
    unlisted[f"{tmp_path}/locked"] = PermissionError("denied")
    with_suffix = FolderArrivals(str(tmp_path), 2.0, ".done", clock)
    assert arrivals.poll(9) == []
    clock.now = 2.0
    assert arrivals.poll(9) == [paths[0], f"{tmp_path}/locked/"]
    assert with_suffix.poll(9) == [f"{tmp_path}/locked/"]
    unlisted.clear()
    assert arrivals.poll(9) == []
    clock.now = 4.0
    assert arrivals.poll(9) == paths[1:]


def test_hidden_folders_are_left_alone_in_every_store(tmp_path, arrivals, clock):
    import fsspec

    write(tmp_path, ".Trash-0/files/a.fits")
    fsspec.filesystem("memory").pipe("/.under/dots/.hidden/b.fits", b"x")
    fsspec.filesystem("memory").pipe("/.under/dots/c.fits", b"x")
    elsewhere = FolderArrivals("memory://.under/dots", 2.0, clock=clock)
    assert (arrivals.poll(9), elsewhere.poll(9)) == ([], [])
    clock.now = 9.0
    assert (arrivals.poll(9), elsewhere.poll(9)) == ([], ["memory://.under/dots/c.fits"])


def test_a_file_is_given_once_when_it_has_been_still(tmp_path, arrivals, clock):
    path = write(tmp_path, "night/a.fits")
    assert arrivals.poll(9) == []
    assert arrivals.waiting == 1
    clock.now = 1.9
    assert arrivals.poll(9) == []
    clock.now = 2.0
    assert arrivals.poll(9) == [path]
    assert arrivals.waiting == 0
    clock.now = 99.0
    assert arrivals.poll(9) == []


def test_one_that_grows_is_waited_for(tmp_path, arrivals, clock):
    for second in range(5):
        path = write(tmp_path, "a.fits", "x" * (1 + second))
        clock.now = float(second)
        assert arrivals.poll(9) == []
    clock.now = 6.0
    assert arrivals.poll(9) == [path]


def test_one_that_changes_afterwards_is_given_again(tmp_path, arrivals, clock):
    path = write(tmp_path, "a.fits")
    arrivals.poll(9)
    clock.now = 2.0
    assert arrivals.poll(9) == [path]
    write(tmp_path, "a.fits", "longer")
    clock.now = 3.0
    assert arrivals.poll(9) == []
    clock.now = 5.0
    assert arrivals.poll(9) == [path]


def test_a_changed_time_alone_counts_as_change(tmp_path, arrivals, clock):
    path = write(tmp_path, "a.fits")
    arrivals.poll(9)
    os.utime(path, (1, 1))
    clock.now = 2.0
    assert arrivals.poll(9) == []


def test_no_more_than_there_is_room_for_is_taken(tmp_path, arrivals, clock):
    paths = [write(tmp_path, f"{name}.fits") for name in "cab"]
    arrivals.poll(9)
    clock.now = 2.0
    assert arrivals.poll(2) == sorted(paths)[:2]
    assert arrivals.waiting == 1
    assert arrivals.poll(2) == sorted(paths)[2:]


def test_an_image_waits_for_what_goes_with_it(tmp_path, arrivals, clock):
    image = write(tmp_path, f"{STEM}_scimrefdiffimg.fits.fz")
    other = write(tmp_path, "other.fits")
    arrivals.poll(9)
    clock.now = 2.0
    write(tmp_path, f"{STEM}_mskimg.fits")
    assert arrivals.poll(9) == [other]
    clock.now = 4.0
    assert arrivals.poll(9) == [image]  # and the mask is not an exposure of its own


def test_an_image_waits_for_a_copy_that_arrives_elsewhere_and_what_goes_with_it(tmp_path, arrivals, clock):
    bare = write(tmp_path, f"a/{STEM}_scimrefdiffimg.fits.fz")
    another = write(tmp_path, f"a/{STEM.replace('c15', 'c16')}_scimrefdiffimg.fits.fz")
    arrivals.poll(9)
    clock.now = 1.0
    copy = write(tmp_path, f"b/{STEM}_scimrefdiffimg.fits")
    arrivals.poll(9)
    clock.now = 2.0
    assert arrivals.poll(9) == [another]
    assert arrivals.waiting == 2
    write(tmp_path, f"b/{STEM}_mskimg.fits")
    clock.now = 3.5
    assert arrivals.poll(9) == []
    clock.now = 6.0
    assert arrivals.poll(9) == [bare, copy]


def test_images_of_one_name_that_no_archive_gives_do_not_wait_for_each_other(tmp_path, arrivals, clock):
    first = write(tmp_path, "visit1/diff.fits")
    arrivals.poll(9)
    clock.now = 2.0
    write(tmp_path, "visit2/diff.fits")
    assert arrivals.poll(9) == [first]


def test_what_is_hidden_temporary_or_no_image_is_left_alone(tmp_path, arrivals, clock):
    for name in (".a.fits", "a.fits.part", "a.fits.tmp", "notes.txt", "exposures.csv"):
        write(tmp_path, name)
    arrivals.poll(9)
    clock.now = 9.0
    assert arrivals.poll(9) == []
    (tmp_path / "a.fits.part").rename(tmp_path / "a.fits")
    arrivals.poll(9)
    clock.now = 11.0
    assert arrivals.poll(9) == [str(tmp_path / "a.fits")]


def test_with_a_suffix_the_writer_decides(tmp_path, clock):
    arrivals = FolderArrivals(str(tmp_path), 2.0, ".done", clock)
    path = write(tmp_path, "a.fits")
    arrivals.poll(9)
    clock.now = 99.0
    assert arrivals.poll(9) == []
    assert arrivals.waiting == 0
    write(tmp_path, "a.fits.done")
    assert arrivals.poll(9) == [path]
    assert arrivals.poll(9) == []


def test_with_a_suffix_an_image_waits_for_nothing_else(tmp_path, clock):
    arrivals = FolderArrivals(str(tmp_path), 2.0, ".done", clock)
    image = write(tmp_path, f"{STEM}_scimrefdiffimg.fits.fz")
    write(tmp_path, f"{STEM}_mskimg.fits")
    write(tmp_path, f"elsewhere/{STEM}_scimrefdiffimg.fits.fz")
    write(tmp_path, f"{STEM}_scimrefdiffimg.fits.fz.done")
    assert arrivals.poll(9) == [image]


def test_an_image_waits_for_its_own_files_and_no_others(tmp_path, arrivals, clock):
    image = write(tmp_path, f"one/{STEM}_scimrefdiffimg.fits.fz")
    arrivals.poll(9)
    clock.now = 2.0
    write(tmp_path, f"two/{STEM}_mskimg.fits")
    write(tmp_path, "one/ztf_20190922290868_000397_zi_c15_o_q3_mskimg.fits")
    assert arrivals.poll(9) == [image]


@pytest.mark.parametrize(("room", "taken"), [(0, 0), (1, 1), (3, 3), (4, 3)])
def test_what_there_is_no_room_for_waits(tmp_path, arrivals, clock, room, taken):
    paths = sorted(write(tmp_path, f"{name}.fits") for name in "abc")
    arrivals.poll(9)
    clock.now = 2.0
    assert arrivals.poll(room) == paths[:taken]
    assert arrivals.waiting == 3 - taken
    assert arrivals.poll(9) == paths[taken:]


@pytest.mark.parametrize("key", ["mtime", "LastModified", "last_modified", "created", "ETag", "size"])
def test_any_sign_of_a_change_counts(monkeypatch, clock, key):
    arrivals, entry = FolderArrivals("memory://changing", 2.0, clock=clock), {"size": 5}
    monkeypatch.setattr(arrivals._fs, "find", lambda *_, **__: {"/changing/a.fits": dict(entry)})
    assert arrivals.poll(9) == []
    for value in (7, 8):
        clock.now += 1.5
        entry[key] = value
        assert arrivals.poll(9) == []
    clock.now += 2.0
    assert arrivals.poll(9) == ["memory://changing/a.fits"]


def test_a_folder_that_is_not_there_is_refused_and_one_that_goes_is_waited_for(tmp_path, monkeypatch, arrivals):
    with pytest.raises(Misconfigured, match="no such folder"):
        FolderArrivals(str(tmp_path / "none"), 2.0)

    def broken(*_, **__):
        raise ConnectionError("cut")

    monkeypatch.setattr(arrivals._fs, "ls", broken)
    with pytest.raises(Retryable, match="cut"):
        arrivals.poll(9)


def test_without_credentials_it_is_refused_at_once_and_waited_for_later(monkeypatch, clock):
    class NoCredentialsError(OSError):
        pass

    def nobody(*_, **__):
        raise NoCredentialsError("Unable to locate credentials")

    for lists_first, kind in ((False, Misconfigured), (True, Retryable)):
        arrivals = FolderArrivals("memory://nobodys", 2.0, clock=clock)
        with monkeypatch.context() as patch:
            if lists_first:
                patch.setattr(arrivals._fs, "find", lambda *_, **__: {})
                arrivals.poll(9)
            patch.setattr(arrivals._fs, "find", nobody)
            with pytest.raises(kind, match="cannot be listed: there are no credentials for it"):
                arrivals.poll(9)


def test_a_prefix_of_another_store_is_watched_alike(clock):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/arriving/2025/a.fits", b"x")
    arrivals = FolderArrivals("memory://arriving", 2.0, clock=clock)
    arrivals.poll(9)
    clock.now = 2.0
    assert arrivals.poll(9) == ["memory://arriving/2025/a.fits"]
    arrivals.finished("memory://arriving/2025/a.fits")
    arrivals.close()
    assert store.exists("/arriving/2025/a.fits")
