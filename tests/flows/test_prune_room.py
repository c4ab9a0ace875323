import shutil

import pytest

from flows.adapters.ledger import Ledger
from flows.prune import removals, take_out
from flows.prune_room import Room, room_of, total
from tests.flows.night_support import settings_of

pytest_plugins = ("tests.flows.night_fixture",)


def weighed(folder):
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return Room(len(sizes), sum(sizes))


@pytest.mark.parametrize("irreplaceable", [False, True])
def test_what_is_told_is_what_becomes_free(uninterrupted, night_models, tmp_path, irreplaceable):
    out = shutil.copytree(uninterrupted[1], tmp_path / "out")
    (out / "staging").mkdir(exist_ok=True)
    (out / "staging/left").write_bytes(b"by a killed run")
    night = Ledger(out).records()[0].night
    listed = removals(out, [night], settings_of(night_models), irreplaceable)
    told = total(room_of(out, one) for one in listed)
    before = weighed(out)
    take_out(out, listed)
    (out / "staging/left").unlink()  # by the lease that a prune holds
    after = weighed(out)
    assert told == Room(before.files - after.files, before.bytes - after.bytes)
    assert told.bytes > 100_000
