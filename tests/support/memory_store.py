"""Bucket in the memory of the test's process, by obstore's own store, which may fail or be watched at each request."""

from collections import Counter, OrderedDict
from contextlib import contextmanager
from threading import RLock

from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from flows.storage import atomic, bucket_path, ledger_bucket
from flows.storage.bucket_path import located
from flows.storage.object_store import configure
from schemas.settings import StoreSettings

REQUESTS = ("get", "put", "head", "list", "list_with_delimiter", "delete")


class WatchedStore:
    """Store whose requests are counted; ``before`` and ``after`` are called with the number of each.

    What ``before`` raises, the store has not done; what ``after`` raises, it has done, and only the answer is lost.
    """

    def __init__(self):
        self.store, self.requests, self.names = MemoryStore(), 0, []
        self.before = self.after = lambda number: None

    def __getattr__(self, name):
        operation = getattr(self.store, name)
        if name not in REQUESTS:
            return operation

        def asked(*arguments, **options):
            self.requests += 1
            number = self.requests
            self.names.append((name, *arguments[:1]))
            self.before(number)
            answer = operation(*arguments, **options)
            self.after(number)
            return answer

        return asked


def down_from(first):
    """Return what fails all requests from the n-th on: to the store, the process is killed there."""

    def fail(number):
        if number >= first:
            raise GenericError("timed out")

    return fail


KNOWN = (
    (ledger_bucket, "_states", dict), (ledger_bucket, "_loaded", OrderedDict), (ledger_bucket, "_lock", RLock),
    (atomic, "_terms", Counter), (atomic, "_held", set), (atomic, "_lost", set),
)  # fmt: skip


def bucket_in_memory(monkeypatch, name="memory"):
    """Return an output folder in an empty store of which nothing is known, and the store; nothing is waited for."""
    store = WatchedStore()
    for module, known, make in KNOWN:  # else of the store of an earlier test, by the same name and the same versions
        monkeypatch.setattr(module, known, make())
    monkeypatch.setattr(bucket_path, "store_of", lambda bucket: store)
    for module in (bucket_path, ledger_bucket):  # one request after the other: their number tells the moment
        monkeypatch.setattr(module, "side_by_side", lambda function, items, remote: [function(one) for one in items])
    monkeypatch.setattr(atomic, "ATTEMPTS", 2)
    monkeypatch.setattr(atomic, "WAIT_S", 0.0)
    monkeypatch.setattr(atomic, "write_conditions", lambda out: atomic.WriteConditions(enforced=True))
    configure(StoreSettings(patience_s=0))
    return located(f"s3://{name}/out"), store


@contextmanager
def another_process(state=None):
    """Know nothing of the ledger within the block but ``state``, as another process does."""
    state = {} if state is None else state
    ours = [getattr(module, name) for module, name, _ in KNOWN]
    for module, name, make in KNOWN:
        setattr(module, name, state.setdefault(name, make()))
    try:
        yield
    finally:
        for (module, name, _), value in zip(KNOWN, ours, strict=True):
            setattr(module, name, value)
