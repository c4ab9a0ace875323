import io

import numpy as np
import pyarrow as pa
import pytest
from astropy.io.votable import parse_single_table, validate
from astropy.table import Table

from flows.export.votable import write_votable
from schemas.dataset import TableOf, column
from schemas.dia_link import DIA_LINK
from schemas.dia_source import DIA_SOURCE
from schemas.forced_source import FORCED_SOURCE
from schemas.injection import INJECTION
from schemas.object import OBJECT
from schemas.source import SOURCE
from tests.flows.export.export_support import objects


def filled(dataset, number=3):
    columns = {}
    for field in dataset.schema:
        values = [True] * number if pa.types.is_boolean(field.type) else np.arange(number)
        if pa.types.is_string(field.type):
            values = ["Zürich"] * number
        elif pa.types.is_fixed_size_list(field.type):
            values = [[0.5] * field.type.list_size] * number
        array = pa.array(values).cast(field.type)
        columns[field.name] = pa.array([None, *array.to_pylist()[1:]], field.type) if field.nullable else array
    return pa.table(columns, schema=dataset.schema)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize(
    "dataset", [DIA_SOURCE, INJECTION, SOURCE, OBJECT, DIA_LINK, FORCED_SOURCE], ids=lambda one: one.name
)
def test_is_valid_and_gives_back_what_was_published(tmp_path, dataset, rows):
    path, table = tmp_path / "table.vot", filled(dataset).slice(0, rows)
    write_votable(path, dataset, table)
    report = io.StringIO()
    assert validate(str(path), report), report.getvalue()
    found = Table.read(path, format="votable")
    assert found.colnames == dataset.schema.names
    assert len(found) == rows
    for name in dataset.schema.names:
        for ours, theirs in zip(table[name].to_pylist(), found[name], strict=True):
            if ours is None:
                assert np.ma.is_masked(theirs) or np.all(np.isnan(theirs))
            else:
                np.testing.assert_array_equal(theirs, ours)


def test_columns_say_what_they_are(tmp_path):
    write_votable(tmp_path / "o.vot", OBJECT, objects(5, 1))
    fields = {field.name: field for field in parse_single_table(tmp_path / "o.vot").fields}
    assert str(fields["g_psfFlux"].unit) == "nJy"
    assert fields["ra"].ucd == "pos.eq.ra;meta.main"
    assert str(fields["g_psfMag"].unit) == "mag"
    assert "dust" in fields["ebv"].description
    assert fields["objectId"].datatype == "long"


def test_ids_beyond_the_precision_of_a_float_survive(tmp_path):
    form = TableOf("ids", pa.schema([column("objectId", pa.int64(), "", "Id.", nullable=True)]))
    write_votable(tmp_path / "i.vot", form, pa.table({"objectId": [2**61 + 1, None]}, schema=form.schema))
    found = Table.read(tmp_path / "i.vot")["objectId"]
    assert found[0] == 2**61 + 1
    assert found.mask.tolist() == [False, True]
