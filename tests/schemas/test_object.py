import pyarrow as pa

from schemas.object import BANDS, OBJECT
from schemas.source import SOURCE


def test_every_band_has_the_same_columns():
    of = {b: [f.name.removeprefix(f"{b}_") for f in OBJECT.schema if f.name.startswith(f"{b}_")] for b in BANDS}
    assert {tuple(names) for names in of.values()} == {tuple(of["g"])}
    assert {"psfFlux", "psfFluxErr", "apFlux", "apMag", "apMag0", "nExposures"} <= set(of["g"])


def test_colours_are_those_of_neighbouring_bands():
    names = [name for name in OBJECT.schema.names if "Minus" in name and not name.endswith("Err")]
    assert names == ["uMinusG", "gMinusR", "rMinusI", "iMinusZ", "zMinusY"]
    assert all(OBJECT.schema.field(f"{name}Err").metadata[b"unit"] == b"mag" for name in names)


def test_a_missing_band_is_null_and_an_object_always_has_a_place():
    assert OBJECT.schema.field("u_psfFlux").nullable
    assert not any(OBJECT.schema.field(name).nullable for name in ("objectId", "ra", "dec", "u_nExposures"))
    assert OBJECT.schema.field("objectId").type == pa.int64()


def test_flags_are_those_of_the_sources():
    ours, theirs = (one.schema.field("flags").metadata[b"doc"].decode() for one in (OBJECT, SOURCE))
    assert ours.startswith(theirs)
