"""Head and segments of the ledger in a bucket, by themselves; the ledger on top of them: test_ledger_bucket.py."""

import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.storage.ledger_head import HEAD, TRIES, Group, Head, State, list_singles, look_up, read_head
from flows.storage.ledger_segment import Snapshot, packed_segment
from flows.storage.object_store import configure
from schemas.errors import Misconfigured, Retryable
from schemas.ledger import LEDGER_VERSION
from schemas.settings import StoreSettings
from tests.support.memory_store import bucket_in_memory

ENTRIES = st.dictionaries(
    st.tuples(st.sampled_from(["exposure", "memo"]), st.text("abc.é", min_size=1, max_size=4)),
    st.none() | st.binary(min_size=1, max_size=20),
    max_size=6,
)


@pytest.fixture
def bucket(monkeypatch):
    """An empty ledger in a bucket, and the store; requests of one are counted."""
    out, store = bucket_in_memory(monkeypatch)
    yield out / "ledger", store
    configure(StoreSettings())


def write(root, store, name, content):
    store.store.put("/".join(["out/ledger", *name.split("/")]), content)
    return root.joinpath(*name.split("/"))


def head(*generations, groups=None):
    return Head(groups=groups or {}, open=generations).model_dump_json().encode()


def listed(root, *generations):
    state = State(Head(open=generations), None, 1)
    list_singles(root, state)
    return {
        (group, *entry): (one.path.parts[-3], one.content)
        for group, entries in state.singles.items()
        for entry, one in entries.items()
    }, {path.parts[-3] for path in state.objects}


def test_no_head_is_an_empty_ledger_unless_an_earlier_version_wrote_it(bucket):
    root, store = bucket
    assert read_head(root) == (Head(), None)
    write(root, store, "held/20260101", b"x")
    with pytest.raises(Misconfigured, match=r"was written by an earlier version, without head\.json") as caught:
        read_head(root)
    assert caught.value.code == "other_version"


def test_a_head_is_read_with_its_version(bucket):
    root, store = bucket
    groups = {"20260101": Group(segments=("a", "b"), records=3)}
    write(root, store, HEAD, head("g1", groups=groups))
    found, version = read_head(root)
    assert (found.groups, found.open, found.schema_version) == (groups, ("g1",), LEDGER_VERSION)
    assert version == (root / HEAD).version()
    write(root, store, HEAD, head("g1", "g2", groups=groups))
    assert read_head(root)[1] != version


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "damaged_ledger"), (b"{", "damaged_ledger"), (b"[]", "damaged_ledger"),
        (b'{"groups": 3}', "damaged_ledger"),
        (b'{"groups": {"n": {"segments": ["a"]}}}', "damaged_ledger"),
        (json.dumps({"schema_version": LEDGER_VERSION + 1}).encode(), "other_version"),
        (json.dumps({"schema_version": LEDGER_VERSION - 1}).encode(), "other_version"),
    ],
)  # fmt: skip
def test_a_head_that_cannot_be_used_is_named(bucket, content, code):
    root, store = bucket
    write(root, store, HEAD, content)
    with pytest.raises(Misconfigured, match=HEAD) as caught:
        read_head(root)
    assert caught.value.code == code


def test_of_an_entry_in_several_open_generations_the_latest_counts(bucket):
    root, store = bucket
    for generation in ("late", "early", "closed"):
        write(root, store, f"open/{generation}/20260101/exposure.1-3.json", generation.encode())
    write(root, store, "open/early/20260101/exposure.2-3.json", b"{}")
    write(root, store, "open/late/20260101/exposure.2-3.json", b"")
    write(root, store, "open/early/index/memo.a.b.json", b"{}")
    entries, generations = listed(root, "early", "late")
    assert entries == {
        ("20260101", "exposure", "1-3"): ("late", None),
        ("20260101", "exposure", "2-3"): ("late", b""),  # removed
        ("index", "memo", "a.b"): ("early", None),
    }
    assert generations == {"early", "late"}
    assert listed(root, "late", "early")[0]["20260101", "exposure", "1-3"] == ("early", None)
    assert listed(root) == ({}, set())


def test_a_ledger_that_nobody_writes_is_looked_up_by_its_head_alone(bucket):
    root, store = bucket
    write(root, store, HEAD, head(groups={"n": Group(segments=("a",), records=1)}))
    found = look_up(root, 7)
    assert (found.term, found.head.groups["n"].records, found.singles, found.generation) == (7, 1, {}, "")
    assert [name for name, *_ in store.names] == ["get"]


def test_what_is_listed_counts_if_the_head_is_still_there(bucket):
    root, store = bucket
    write(root, store, HEAD, head("g1"))
    write(root, store, "open/g1/20260101/exposure.1-3.json", b"{}")
    moved = []

    def move(number):
        if store.names[-1][0] == "list" and len(moved) < changes:
            moved.append(number)
            write(root, store, HEAD, head("g1", f"g{len(moved) + 1}"))

    store.after = move
    changes = 2
    assert look_up(root, 1).head.open == ("g1", "g3")
    moved.clear()
    changes = TRIES
    with pytest.raises(Retryable, match="changes again and again"):
        look_up(root, 1)
    assert len(moved) == TRIES


@given(st.lists(ENTRIES, max_size=4))
def test_a_later_segment_replaces_what_earlier_ones_say(parts):
    expected = {}
    for part in parts:
        expected |= part
    expected = {entry: content for entry, content in expected.items() if content is not None}
    found = Snapshot("here", [packed_segment(part) for part in parts])
    changed = Snapshot("here")
    for part in parts:
        changed.change(part)
    again = Snapshot("here", [found.packed()] if expected else [])
    for one in (found, changed, again):
        for kind in ("exposure", "memo", "other"):
            assert sorted(one.names(kind)) == sorted(name for of, name in expected if of == kind)
        assert {entry: one.get(*entry) for entry in expected} == expected
        assert one.get("exposure", "nobody") is None
        assert bool(one.packed()) == bool(expected)


@pytest.mark.parametrize("content", [b"", b"no database of SQLite", packed_segment({("a", "b"): b"c"})[:600]])
def test_a_damaged_segment_is_refused(content):
    with pytest.raises(Misconfigured, match=r"20260101.*cannot be read.*put the object back") as caught:
        Snapshot("segment of 20260101", [packed_segment({("a", "b"): b"c"}), content])
    assert caught.value.code == "damaged_ledger"


def test_a_segment_is_a_database_that_sqlite_reads():
    database = sqlite3.connect(":memory:")
    database.deserialize(packed_segment({("exposure", "1"): b"x", ("memo", "2"): None}))
    assert sorted(database.execute("SELECT * FROM entry")) == [("exposure", "1", b"x"), ("memo", "2", None)]
    database.close()


def test_what_a_head_says_does_not_change():
    group = Group(segments=("a",), records=1)
    for one, name in ((group, "records"), (Head(groups={"night": group}), "open")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(one, name, ())
