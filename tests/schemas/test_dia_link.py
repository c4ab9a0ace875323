import pyarrow as pa
import pytest

from schemas.dataset import DatasetError
from schemas.dia_link import DIA_LINK


def test_a_detection_may_have_neither_object_nor_host():
    row = dict.fromkeys(DIA_LINK.schema.names) | {"diaSourceId": 5}
    DIA_LINK.check(pa.Table.from_pylist([row], DIA_LINK.schema))


def test_refuses_synthetic_detections():
    row = dict.fromkeys(DIA_LINK.schema.names) | {"diaSourceId": -5}
    with pytest.raises(DatasetError, match="synthetic row"):
        DIA_LINK.check(pa.Table.from_pylist([row], DIA_LINK.schema))
