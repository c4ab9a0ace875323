import pytest
from astropy import units as u
from pydantic import ValidationError

from flows.storage.catalog_store import field_unit
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.forced import FORCED_SOURCE, ForcedSummary, Note

RUBIN = {"visit", "detector", "band", "midpointMjdTai", "ra", "dec", "psfFlux", "psfFluxErr"}
"""Columns of Rubin's DiaForcedSource (APDB schema) that need no object of our own."""


def test_rubins_names_are_there():
    assert set(FORCED_SOURCE.schema.names) >= RUBIN


def test_columns_of_both_catalogues_have_one_unit():
    for field in FORCED_SOURCE.schema:
        unit = field.metadata[b"unit"]
        assert isinstance(field_unit(unit.decode()), u.UnitBase | u.FunctionUnitBase)
        if field.name in DIA_SOURCE.schema.names:
            other = DIA_SOURCE.schema.field(field.name)
            assert (unit, field.type) == (other.metadata[b"unit"], other.type)


def test_only_what_is_measured_may_be_null():
    nullable = {field.name for field in FORCED_SOURCE.schema if field.nullable}
    assert nullable == {
        "psfFlux", "psfFluxErr", "trailFlux", "trailFluxErr", "trailFluxUpper", "magAB", "magABErr", "magABLimit",
        "snr", "trailChi2",
    }  # fmt: skip


NOTE = Note.of(BadInput("bad_target", "list: row 3", "is 'x'.", "correct it."))


def test_note_says_what_the_error_says():
    assert str(NOTE) == "list: row 3: is 'x'. To fix, correct it."
    assert NOTE.code == "bad_target"


@pytest.mark.parametrize(
    ("notes", "code"), [({}, 0), ({"not_run": (NOTE,)}, 0), ({"left_out": (NOTE,)}, 1), ({"quarantined": (NOTE,)}, 1)]
)
def test_exit_code_tells_what_needs_attention(notes, code):
    assert ForcedSummary(targets=1, exposures=1, **notes).exit_code == code


def test_survives_json():
    summary = ForcedSummary(targets=2, exposures=1, rows=1, limits=1, not_covered=("a",), left_out=(NOTE,))
    assert ForcedSummary.model_validate_json(summary.model_dump_json()) == summary


COUNTS = ("targets", "exposures", "rows", "detections", "limits", "not_measured")


@pytest.mark.parametrize("name", COUNTS)
def test_counts_begin_with_nothing(name):
    given = {"targets": 0, "exposures": 0}
    assert getattr(ForcedSummary(**given), name) == 0
    with pytest.raises(ValidationError, match=name):
        ForcedSummary(**(given | {name: -1}))
