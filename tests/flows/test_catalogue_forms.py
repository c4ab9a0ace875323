import numpy as np
import pyarrow as pa
import pytest

from flows.catalogue_forms import DEFAULTS, adapted, declared_tables
from schemas.dia_source import DIA_SOURCE
from tests.flows.report.conftest import make_info, make_rows

OLD = [name for name in DIA_SOURCE.schema.names if name not in DEFAULTS["dia_source"]]


def old_table(rows=5):
    table = pa.Table.from_pylist(make_rows(make_info(), rows, 1), schema=DIA_SOURCE.schema)
    return table.select(OLD)


def test_missing_columns_say_that_nothing_is_known_and_the_others_stay():
    made = adapted(old_table(), DIA_SOURCE)
    DIA_SOURCE.check(made.table)
    assert made.table.select(OLD).equals(old_table())
    assert np.isnan(made.table["cosmicRayEvidence"].to_numpy()).all()
    assert made.table["trailClass"].to_pylist() == [""] * 5
    assert set(made.added) == set(DEFAULTS["dia_source"])


def test_an_empty_catalogue_has_its_form_too():
    DIA_SOURCE.check(adapted(old_table(0), DIA_SOURCE).table)


@pytest.mark.parametrize("case", ["unknown", "type", "missing", "null"])
def test_what_would_be_lost_or_invented_is_left(case):
    table = old_table()
    place = table.schema.get_field_index("snr")
    table = {
        "unknown": lambda: table.append_column("invented", pa.nulls(5)),
        "type": lambda: table.set_column(place, "snr", table["snr"].cast(pa.float64())),
        "missing": lambda: table.drop_columns(["snr"]),
        "null": lambda: table.set_column(place, "snr", pa.nulls(5, pa.float32())),
    }[case]()
    assert adapted(table, DIA_SOURCE) is None


def test_every_default_is_of_a_declared_column():
    tables = declared_tables()
    for name, columns in DEFAULTS.items():
        assert set(columns) <= set(tables[name].schema.names)
