import dataclasses

import pytest

from flows.inputs.probe import read
from flows.inputs.source import RawExposure, Source, name_of
from schemas.exposure import ExposureInfo
from schemas.settings import Settings


def test_tells_images_of_a_stack_apart():
    assert name_of(Source("s3://night/a.fits")) == "s3://night/a.fits"
    assert name_of(Source("stack.npz", index=3)) == "stack.npz[3]"


def test_cannot_be_changed(write_ztf):
    raw = read(Source(write_ztf()), Settings())
    with pytest.raises(dataclasses.FrozenInstanceError):
        raw.band = "g"


def test_its_fields_are_those_of_the_exposure_record():
    fields = {field.name for field in dataclasses.fields(RawExposure)} - {"key", "file_sha256"}
    assert fields <= set(ExposureInfo.model_fields)
