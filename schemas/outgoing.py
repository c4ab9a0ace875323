"""What may leave the house: rows of `dia_source` as they are published, and nothing of our own making."""

import pyarrow as pa
import pyarrow.compute as pc

from schemas.dataset import DatasetError
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured

_DATASET = b"nightstride.dataset"


def require_outgoing(rows: pa.Table, published: pa.Table) -> pa.Table:
    """Give ``rows`` back if they may go into an alert or a report; every writer of such asks here first.

    Parameters
    ----------
    rows
        Of `DIA_SOURCE`, to be sent out.
    published
        What the catalogue `dia_source` holds of their exposures, as read from its files.

    Raises
    ------
    Misconfigured
        Code ``not_outgoing``: they are of another form or dataset, an id is below 0 (synthetic), is given twice or is
        not that of its visit and detector, or a row is not in the catalogue just like this.
    """
    for table in (rows, published):
        try:
            DIA_SOURCE.check(table)
        except DatasetError as error:
            raise _refusal(str(error)) from error
        name = (table.schema.metadata or {}).get(_DATASET, DIA_SOURCE.name.encode()).decode()
        if name != DIA_SOURCE.name:
            raise _refusal(f"the rows say that they are of the dataset {name!r}")
    ids = rows["diaSourceId"]
    if pc.count_distinct(ids).as_py() != len(rows):
        raise _refusal("a diaSourceId is given twice")
    owner = pc.bit_wise_or(pc.shift_left(rows["visit"], 21), pc.shift_left(rows["detector"].cast(pa.int64()), 12))
    if not pc.all(pc.equal(owner, pc.bit_wise_and(ids, ~0xFFF)), min_count=0).as_py():
        raise _refusal("a diaSourceId is not that of its visit and detector")
    known = published.filter(pc.is_in(published["diaSourceId"], value_set=ids.combine_chunks()))
    if not _sorted(known).equals(_sorted(rows)):
        raise _refusal("a row is not in the published catalogue just like this")
    return rows


def _sorted(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(None).sort_by("diaSourceId").combine_chunks()


def _refusal(problem: str) -> Misconfigured:
    return Misconfigured(
        "not_outgoing", "outgoing rows", f"{problem}.", "send rows of the published catalogue dia_source only."
    )
