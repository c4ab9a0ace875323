"""A night of three visits with a star at rest, two movers and false detections, opened."""

import numpy as np
import pyarrow as pa
import pytest

import nightstride as ns
from flows.storage.catalog_store import CatalogStore
from schemas.dia_object import DIA_OBJECT_SOURCE
from schemas.patch import PatchKey
from tests.flows.results.page.conftest import NIGHT
from tests.support.shared import made_once
from tests.support.tracklets import publish_linked


def make(folder):
    ids = publish_linked(folder / "out")
    star = np.array(ids[0])
    columns = {
        "diaSourceId": star,
        "diaObjectId": np.full(3, star[0]),
        "separation": np.array([0, 0.1, 0.2], np.float32),
    }
    key, table = PatchKey(night=NIGHT, order=0, pixel=0), pa.table(columns, schema=DIA_OBJECT_SOURCE.schema)
    CatalogStore(folder / "out").publish(DIA_OBJECT_SOURCE, key, table, "d")
    np.save(folder / "ids.npy", np.array(ids[:3]))


@pytest.fixture(scope="session")
def linked_folder(tmp_path_factory):
    return made_once(tmp_path_factory, "linked", make)


@pytest.fixture
def linked(linked_folder):
    """The night, and the ids of the detections of the star and of two movers, by time."""
    return ns.open(linked_folder / "out"), np.load(linked_folder / "ids.npy").tolist()
