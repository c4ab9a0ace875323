from schemas.object import BANDS
from schemas.truth_object import TRUTH_OBJECT


def test_has_a_magnitude_in_every_band_that_objects_have():
    assert [name.removesuffix("_mag") for name in TRUTH_OBJECT.schema.names if name.endswith("_mag")] == list(BANDS)
