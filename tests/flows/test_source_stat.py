import os

import fsspec
import pytest

from flows.adapters.sources import Source
from flows.source_stat import stat_of


def test_sums_sizes_and_takes_the_last_change(tmp_path):
    for name, size, when in [("a", 10, 5), ("b", 7, 9)]:
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, ns=(when, when))
    source = Source(str(tmp_path / "a"), siblings=(("mask", str(tmp_path / "b")),))
    assert stat_of(source).model_dump(exclude={"each"}) == {"size": 17, "mtime_ns": 9}
    assert stat_of(Source(str(tmp_path / "a"))).model_dump(exclude={"each"}) == {"size": 10, "mtime_ns": 5}


@pytest.mark.parametrize("change", [{"a": (7, 5), "b": (10, 9)}, {"a": (10, 3), "b": (7, 9)}])
def test_a_change_of_any_file_shows(tmp_path, change):
    source = Source(str(tmp_path / "a"), siblings=(("mask", str(tmp_path / "b")),))
    found = []
    for state in ({"a": (10, 5), "b": (7, 9)}, change, {"a": (10, 5), "b": (7, 9)}):
        for name, (size, when) in state.items():
            (tmp_path / name).write_bytes(bytes(size))
            os.utime(tmp_path / name, ns=(when, when))
        found.append(stat_of(source))
    before, changed, after = found
    assert (before.size, before.mtime_ns) == (changed.size, changed.mtime_ns)
    assert changed != before == after


def test_of_what_is_not_there_or_does_not_tell_nothing_is_known(tmp_path):
    assert stat_of(Source(str(tmp_path / "none"))) is None
    assert stat_of(Source("memory://night/none.fits")) is None


def test_of_a_url(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    found = stat_of(Source((tmp_path / "a").as_uri()))
    assert found.size == 4
    assert abs(found.mtime_ns - (tmp_path / "a").stat().st_mtime_ns) < 10**6
    with fsspec.open("memory://night/a.fits", "wb") as file:
        file.write(b"12345")
    unsure = stat_of(Source("memory://night/a.fits"))
    assert unsure is None or unsure.size == 5
