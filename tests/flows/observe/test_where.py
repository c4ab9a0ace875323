import asyncio

import pytest

from flows.observe.where import bound, of_exposure, where
from schemas.exposure import ExposureKey


def test_fields_add_up_inside_and_are_gone_outside():
    with bound({"night": "20260101", "visit": 7}), bound({"detector": 3, "visit": 8}):
        assert where() == {"night": "20260101", "visit": 8, "detector": 3}
    assert where() == {}


def test_they_are_gone_after_an_error_too():
    with pytest.raises(OSError, match="disk"), bound({"visit": 7}):
        raise OSError("disk")
    assert where() == {}


def test_exposures_side_by_side_have_their_own():
    async def one(detector):
        with bound({"detector": detector}):
            await asyncio.sleep(0)
            return where()

    async def both():
        with bound({"visit": 7}):
            return await asyncio.gather(one(1), one(2))

    assert asyncio.run(both()) == [{"visit": 7, "detector": 1}, {"visit": 7, "detector": 2}]


def test_an_exposure_is_named_by_all_its_parts():
    key = ExposureKey(night="20260101", visit=7, detector=3)
    assert of_exposure(key) == {"night": "20260101", "visit": 7, "detector": 3, "exposure": "7-3"}
