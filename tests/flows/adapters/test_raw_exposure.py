import dataclasses

import pytest

from flows.adapters.probe import read
from flows.adapters.raw_exposure import RawExposure
from flows.adapters.sources import Source
from schemas.exposure import ExposureInfo
from schemas.settings import Settings


def test_cannot_be_changed(write_ztf):
    raw = read(Source(write_ztf()), Settings())
    with pytest.raises(dataclasses.FrozenInstanceError):
        raw.band = "g"


def test_its_fields_are_those_of_the_exposure_record():
    fields = {field.name for field in dataclasses.fields(RawExposure)} - {"key"}
    assert fields <= set(ExposureInfo.model_fields)
