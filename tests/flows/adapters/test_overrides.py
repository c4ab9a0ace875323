import pytest

from flows.adapters.manifest import FIELDS
from flows.adapters.probe import probe, read
from flows.adapters.sources import Source
from schemas.errors import BadInput
from schemas.settings import Settings

GIVEN = {
    "visit": "17",
    "detector": "3",
    "band": "z",
    "zero_point": "25.5",
    "gain": "2.5",
    "saturation": "30000",
    "psf_fwhm_px": "3.25",
}


def test_every_column_of_a_manifest_has_its_effect(write_ztf):
    assert tuple(GIVEN) == FIELDS
    source = Source(write_ztf(), overrides=tuple(GIVEN.items()))
    key, raw = probe(source, Settings()), read(source, Settings())
    assert key == raw.key
    assert (key.visit, key.detector, raw.band) == (17, 3, "z")
    assert (raw.zero_point, raw.gain, raw.saturation, raw.psf.fwhm_px) == (25.5, 2.5, 30000, 3.25)
    assert key.night == probe(Source(source.uri), Settings()).night


@pytest.mark.parametrize(
    ("field", "value"), [("visit", "-1"), ("detector", "512"), ("zero_point", "bright"), ("psf_fwhm_px", "0")]
)
def test_nonsense_is_named(write_ztf, field, value):
    with pytest.raises(BadInput, match=field):
        read(Source(write_ztf(), overrides=((field, value),)), Settings())
