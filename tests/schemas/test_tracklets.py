import pyarrow as pa
import pytest

from kernels.linking.detections import SLOWEST
from schemas.dataset import DatasetError
from schemas.settings import LinkTrackletsSettings
from schemas.tracklets import TRACKLET_SOURCE


def test_a_detection_may_be_in_no_tracklet():
    row = dict.fromkeys(TRACKLET_SOURCE.schema.names) | {"diaSourceId": 5, "stationary": False}
    TRACKLET_SOURCE.check(pa.Table.from_pylist([row], TRACKLET_SOURCE.schema))


def test_refuses_synthetic_detections():
    row = dict.fromkeys(TRACKLET_SOURCE.schema.names) | {"diaSourceId": -5, "stationary": False}
    with pytest.raises(DatasetError, match="synthetic row"):
        TRACKLET_SOURCE.check(pa.Table.from_pylist([row], TRACKLET_SOURCE.schema))


def test_links_are_published_although_tracklets_are_made_of_them():
    assert TRACKLET_SOURCE.product


def test_rates_begin_where_rest_ends():
    assert LinkTrackletsSettings(max_rate=SLOWEST * 1.001)
    with pytest.raises(ValueError, match=r"greater than 0\.03"):
        LinkTrackletsSettings(max_rate=SLOWEST)
