import numpy as np
import pyarrow as pa
import pytest
from astropy.io.votable.ucd import check_ucd

from schemas.dataset import ArrayOf, DatasetError, FileOf, TableOf, column, ucd_of
from schemas.forced import FORCED_SOURCE
from schemas.truth import TRUTH_OBJECT
from stages import PIPELINE

TABLE = TableOf(
    "thing",
    pa.schema([column("x", pa.float64(), "pix", "Where."), column("ra", pa.float64(), "deg", "Sky.", nullable=True)]),
)
PIXELS = ArrayOf("pixels", "float32", ("y", "x"), "adu")


def test_right_form_passes():
    TABLE.check(pa.table({"x": [1.0], "ra": [None]}, schema=TABLE.schema))
    TABLE.check(TABLE.empty())
    PIXELS.check(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], "must be a pyarrow Table, got list"),
        (pa.table({"x": [1.0]}), r"missing \['ra: double'\]"),
        (pa.table({"x": [1], "ra": [1.0]}), r"missing \['x: double'\], unexpected \['x: int64'\]"),
        (pa.table({"x": [None], "ra": [1.0]}, schema=TABLE.schema), "x must not be null, got 1 nulls"),
    ],
)
def test_wrong_table_is_named(value, message):
    with pytest.raises(DatasetError, match=f"dataset 'thing'.*{message}"):
        TABLE.check(value)


@pytest.mark.parametrize("value", [np.zeros((2, 3)), np.zeros(3, np.float32), [[1.0]]])
def test_wrong_array_is_named(value):
    with pytest.raises(DatasetError, match=r"'pixels' must be float32 \('y', 'x'\), got"):
        PIXELS.check(value)


def test_column_carries_unit_and_meaning():
    field = TABLE.schema.field("x")
    assert field.metadata == {b"unit": b"pix", b"doc": b"Where.", b"ucd": b"pos.cartesian.x;instr.det"}
    assert not field.nullable


def test_ids_of_what_was_seen_are_never_below_zero():
    seen = TableOf("seen", pa.schema([column("id", pa.int64(), "", "Which.")]), ids="id")
    seen.check(seen.empty())
    seen.check(pa.table({"id": [0, 5]}, schema=seen.schema))
    with pytest.raises(DatasetError, match="dataset 'seen': id -3 is that of a synthetic row, not of the sky"):
        seen.check(pa.table({"id": [4, -3]}, schema=seen.schema))


@pytest.mark.parametrize(("least", "right"), [(-1, False), (0, True), (1, True), (2**62, True)])
def test_an_id_of_zero_is_of_the_sky(least, right):
    seen = TableOf("seen", pa.schema([column("id", pa.int64(), "", "Which.")]), ids="id")
    table = pa.table({"id": [2**62, least]}, schema=seen.schema)
    if right:
        seen.check(table)
    else:
        with pytest.raises(DatasetError, match="synthetic row"):
            seen.check(table)
    TableOf("seen", seen.schema).check(table)  # where no column is named, none is looked at


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (np.zeros((2, 3), np.float32), True), (np.zeros((0, 0), np.float32), True),
        (np.zeros((2, 3), np.float64), False), (np.zeros(3, np.float32), False),
        (np.zeros((1, 2, 3), np.float32), False), (None, False),
    ],
)  # fmt: skip
def test_an_array_has_its_type_and_its_axes(value, right):
    if right:
        PIXELS.check(value)
    else:
        with pytest.raises(DatasetError, match="'pixels' must be"):
            PIXELS.check(value)


def test_a_table_is_neither_published_nor_synthetic_unless_told():
    assert (TABLE.product, TABLE.synthetic, TABLE.ids) == (False, False, "")
    assert TABLE.empty().num_rows == 0


PUBLISHED = [stage.gives for stage in PIPELINE if isinstance(stage.gives, TableOf) and stage.per != "tile"]
PUBLISHED = [one for one in PUBLISHED if one.name != "streak"] + [FORCED_SOURCE, TRUTH_OBJECT]
FIELDS = [pytest.param(one, field, id=f"{one.name}.{field.name}") for one in PUBLISHED for field in one.schema]


@pytest.mark.parametrize(("dataset", "field"), FIELDS)
def test_every_published_column_has_a_unit_and_a_valid_ucd(dataset, field):
    assert b"unit" in field.metadata
    ucd = field.metadata[b"ucd"].decode()
    assert ucd
    assert check_ucd(ucd, check_controlled_vocabulary=True)


@pytest.mark.parametrize("dataset", PUBLISHED, ids=lambda one: one.name)
def test_a_table_has_one_main_id_and_one_main_position_at_most(dataset):
    main = [field.name for field in dataset.schema if b"meta.main" in field.metadata[b"ucd"]]
    ids = [name for name in main if name not in ("ra", "dec")]
    assert len(main) - len(ids) in (0, 2)
    assert len(ids) <= 1 or dataset.name == "dia_link"


def test_errors_and_bands_follow_from_what_they_are_of():
    assert ucd_of("raErr") == "stat.error;pos.eq.ra"
    assert ucd_of("g_psfFluxErr") == "stat.error;phot.flux.density;em.opt.B"
    assert ucd_of("z_apMag0") == "phot.mag;em.opt.I"
    assert ucd_of("gMinusRErr") == "stat.error;phot.color"
    assert ucd_of("pStar") == "stat.probability"
    assert ucd_of("psfFlux") == "phot.flux.density;em.opt"
    assert ucd_of("unheardOf") == ""


def test_a_file_that_nobody_has_set_is_missing():
    orbits = FileOf("orbits", "predict_known.orbits")
    orbits.check("a file")
    orbits.check("")
    with pytest.raises(DatasetError, match=r"'orbits' is missing. To fix, set predict_known\.orbits"):
        orbits.check(None)
