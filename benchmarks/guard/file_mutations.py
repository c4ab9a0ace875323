"""Changes of files as faulty disks, transfers, header tools and people make them, drawn by a seed."""

import io
import random
import zipfile

import numpy as np

from flows.inputs.ingest import prepare
from flows.inputs.probe import probe
from flows.inputs.source import Source
from schemas.errors import BadInput
from schemas.settings import Settings

SETTINGS = Settings(fits={"checksum": "ignore"})  # else the checksums would catch everything
VALUES = (
    "inf", "-inf", "nan", "1e400", "-1", "0", "1e5", "9" * 40, "''", "'abc'", "T", "(1.0, 2.0)", "= =", "'open",
    "1.2.3", "\x00\x01", "\xff\xfe", "'2019-13-45T99:99:99'", "-2147483648", "1e-320",
)  # fmt: skip
CARD, BLOCK = 80, 2880
NPY_HEADER = 128


def mutated(original: bytes, name: str, seed: int | str) -> bytes:
    """Return a file with one change; ``name`` says which changes fit it."""
    rng = random.Random(seed)
    data = bytearray(original)
    rng.choice(NPZ_CHANGES if name.endswith(".npz") else FITS_CHANGES)(data, rng)
    return bytes(data)


def used_or_refused(source: Source) -> str:
    """Read an exposure as a run does; return the code of the refusal, or "used"."""
    try:
        probe(source, SETTINGS)
        info, _ = prepare(source, SETTINGS)
    except BadInput as error:
        return error.code
    assert np.isfinite(info.midpoint_mjd_tai)
    return "used"


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


def changed_member(data: bytearray, rng: random.Random) -> None:
    """Change the npy header of a member, or its first values, in a zip whose sums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: bytearray(archive.read(info)) for info in archive.infolist()}
    member = members[rng.choice(sorted(members))]
    for _ in range(rng.randint(1, 8)):
        member[rng.randrange(min(len(member), NPY_HEADER))] = rng.choice(
            (*b"0123456789()[]{}',<>|=OfiVTrue", *range(256))
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(content))
    data[:] = packed.getvalue()


def broken_directory(data: bytearray, rng: random.Random) -> None:
    """Change bytes of a zip's central directory."""
    at = data.rindex(b"PK\x01\x02")
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(at, len(data))] = rng.randrange(256)


FITS_CHANGES = (new_value, new_value, broken_card, lost_card, copied_card, cut, inserted, noise)
NPZ_CHANGES = (changed_member, changed_member, broken_directory, cut, inserted, noise)
