from schemas.dia_source import DIA_SOURCE
from schemas.streak import STREAK


def test_what_passes_on_to_detections_has_the_same_form_there():
    for name in ("logitSum", "logitPeak", "nHits", "x", "y"):
        assert STREAK.schema.field(name).type == DIA_SOURCE.schema.field(name).type
        assert STREAK.schema.field(name).metadata[b"unit"] == DIA_SOURCE.schema.field(name).metadata[b"unit"]


def test_nothing_about_a_candidate_may_be_missing():
    assert not any(field.nullable for field in STREAK.schema)
