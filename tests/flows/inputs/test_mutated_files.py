"""Files as faulty disks, transfers and header tools leave them: each is used, or refused with a reason."""

import random
from pathlib import Path

import numpy as np
import pytest

from flows.inputs.ingest import prepare
from flows.inputs.probe import probe
from flows.inputs.source import Source
from schemas.errors import BadInput
from schemas.settings import Settings

SETTINGS = Settings(fits={"checksum": "ignore"})  # else the sums would answer for all the rest
VALUES = (
    "inf", "-inf", "nan", "1e400", "-1", "0", "1e5", "9" * 40, "''", "'abc'", "T", "(1.0, 2.0)", "= =", "'open",
    "1.2.3", "\x00\x01", "\xff\xfe", "'2019-13-45T99:99:99'", "-2147483648", "1e-320",
)  # fmt: skip
CARD, BLOCK = 80, 2880


def cards(data: bytes) -> list[int]:
    """Places of the cards of all headers that begin on a block."""
    found = []
    for start in range(0, len(data), BLOCK):
        if data[start : start + 9] in (b"SIMPLE  =", b"XTENSION="):
            end = data.index(b"END" + b" " * 77, start)
            found += range(start, end, CARD)
    return found


def new_value(data: bytearray, rng: random.Random) -> None:
    at = rng.choice(cards(bytes(data)))
    value = rng.choice(VALUES).encode("latin-1")
    data[at + 8 : at + CARD] = (b"= " + value).ljust(CARD - 8)[: CARD - 8]


def broken_card(data: bytearray, rng: random.Random) -> None:
    at = rng.choice(cards(bytes(data)))
    for _ in range(rng.randint(1, 20)):
        data[at + rng.randrange(CARD)] = rng.randrange(256)


def lost_card(data: bytearray, rng: random.Random) -> None:
    at = rng.choice(cards(bytes(data)))
    data[at : at + CARD] = b" " * CARD


def copied_card(data: bytearray, rng: random.Random) -> None:
    one, other = rng.choices(cards(bytes(data)), k=2)
    data[one : one + CARD] = data[other : other + CARD]


def cut(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 80, 2880, 10000, len(data)))]


def inserted(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 80, 2880)))


def noise(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    length = rng.choice((1, 4, 64, 3000))
    data[at : at + length] = rng.randbytes(len(data[at : at + length]))


CHANGES = (new_value, new_value, broken_card, lost_card, copied_card, cut, inserted, noise)


def used_or_refused(source: Source) -> str:
    try:
        probe(source, SETTINGS)
        info, _ = prepare(source, SETTINGS)
    except BadInput as error:
        return error.code
    assert np.isfinite(info.midpoint_mjd_tai)
    return "used"


@pytest.mark.parametrize("form", ["plain", "compressed", "sibling"])
def test_a_mutated_file_is_used_or_refused(write_ztf, sky, form):
    """Of 100 of each form nothing leaves the typed errors, whatever was changed."""
    good = write_ztf(compressed=form == "compressed")
    spoilt = write_ztf(np.abs(sky) + 100, compressed=False, product="sciimg") if form == "sibling" else good
    source = Source(good, (("science", spoilt),) if form == "sibling" else ())
    original = Path(spoilt).read_bytes()
    verdicts = []
    for seed in range(100):
        rng = random.Random(f"{form} {seed}")
        data = bytearray(original)
        rng.choice(CHANGES)(data, rng)
        Path(spoilt).write_bytes(data)
        verdicts.append(used_or_refused(source))
    assert verdicts.count("used") > 10
    assert len(set(verdicts)) > 3
