import pytest

from schemas.errors import BadInput
from schemas.forced_summary import ForcedSummary, Note

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
