from concurrent.futures import ThreadPoolExecutor

import pytest

from flows.storage.ledger_segment import Snapshot, packed_segment
from schemas.errors import Misconfigured

FIRST = packed_segment({("night", "a"): b"1", ("night", "b"): b"2", ("memo", "a"): b"3"})
SECOND = packed_segment({("night", "a"): b"4", ("night", "b"): None, ("night", "c"): b""})


def contents(segment):
    return {(kind, name): segment.get(kind, name) for kind in ("night", "memo") for name in segment.names(kind)}


def test_later_segments_replace_and_remove_entries_of_earlier_ones():
    found = Snapshot("x", [FIRST, SECOND])
    assert contents(found) == {("night", "a"): b"4", ("night", "c"): b"", ("memo", "a"): b"3"}
    assert found.get("night", "b") is None
    assert contents(Snapshot("x", [SECOND, FIRST]))["night", "b"] == b"2"


def test_entries_are_changed_and_packed_as_one_segment():
    found = Snapshot("x", [FIRST])
    assert found.packed() != b""
    found.change({("night", "a"): None, ("memo", "a"): b"5", ("memo", "b"): b"6"})
    expected = {("night", "b"): b"2", ("memo", "a"): b"5", ("memo", "b"): b"6"}
    assert contents(found) == contents(Snapshot("x", [found.packed()])) == expected
    found.change(dict.fromkeys(expected))
    assert found.packed() == Snapshot("x").packed() == b""


def test_threads_share_it():
    found = Snapshot("x", [FIRST])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: found.change({("night", str(n)): b"%d" % n}), range(40)))
        read = list(threads.map(lambda n: found.get("night", str(n)), range(40)))
    assert read == [b"%d" % n for n in range(40)]


@pytest.mark.parametrize("content", [b"", b"no database", FIRST[:-4096]])
def test_a_damaged_segment_is_named(content):
    with pytest.raises(Misconfigured) as caught:
        contents(Snapshot("s3://x/y", [content]))
    assert (caught.value.code, caught.value.where) == ("damaged_ledger", "s3://x/y")
