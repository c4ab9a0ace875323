"""Somebody who judges candidates, in a process that loads nothing else."""

import traceback

from flows.vetting import verdicts
from flows.vetting.verdicts import VerdictStore
from schemas.vetting import Verdict

NIGHT = "20261103"


def add(store, source_id, verdict="real", user="a", blind=False, place=None):
    """Say something of a detection, which has a place of its own unless one is given."""
    own = (10.0 + 20 * (source_id & 0xFFF), 20.0) if place is None else place
    return store.add(user, NIGHT, source_id, own, Verdict(verdict), blind=blind)


def work(out, user):
    """Judge forty candidates, and take back every fourth verdict."""
    verdicts.WAIT_S = 100.0  # without pause, unlike people
    verdicts.os.fsync = lambda _: None  # of a busy disk it takes seconds, and the lock is tried
    try:
        store = VerdictStore(out)
        for n in range(40):
            made = add(store, n, user=user)
            if n % 4 == 0:
                store.undo(user, made.id)
    except BaseException:
        (out / f"failed {user}").write_text(traceback.format_exc())
        raise
