import numpy as np
import pyarrow as pa
import pytest

from schemas.dataset import DatasetError
from schemas.objects import BANDS, CENTRE, CUTOUTS, DIA_LINK, OBJECT, SIDE, SOURCE


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


def test_is_published_although_objects_are_made_of_it():
    assert SOURCE.product


def test_is_four_dimensional_single_precision():
    CUTOUTS.check(np.zeros((3, 8, SIDE, SIDE), np.float32))
    for bad in (np.zeros((3, 8, SIDE, SIDE)), np.zeros((3, SIDE, SIDE), np.float32)):
        with pytest.raises(DatasetError, match="cutouts"):
            CUTOUTS.check(bad)


def test_an_even_side_has_its_centre_right_of_the_middle():
    assert (SIDE, CENTRE) == (26, SIDE // 2)


def test_a_detection_may_have_neither_object_nor_host():
    row = dict.fromkeys(DIA_LINK.schema.names) | {"diaSourceId": 5}
    DIA_LINK.check(pa.Table.from_pylist([row], DIA_LINK.schema))


def test_refuses_synthetic_detections():
    row = dict.fromkeys(DIA_LINK.schema.names) | {"diaSourceId": -5}
    with pytest.raises(DatasetError, match="synthetic row"):
        DIA_LINK.check(pa.Table.from_pylist([row], DIA_LINK.schema))


def test_links_are_published_only_where_no_later_stage_reads_them():
    assert (OBJECT.product, DIA_LINK.product) == (True, False)
    assert (OBJECT.ids, DIA_LINK.ids, SOURCE.ids) == ("objectId", "diaSourceId", "")
