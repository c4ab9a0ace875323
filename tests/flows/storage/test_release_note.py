import pytest
from pydantic import ValidationError

from flows.storage.release_note import ReleaseNote, read_note
from schemas.errors import BadInput


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "is damaged: it is not JSON"), ('{"name": "DR1"}', "is damaged: its field created_at is missing or wrong")],
)
def test_a_damaged_note_is_told_without_a_librarys_words(tmp_path, content, says):
    (tmp_path / "release.json").write_text(content)
    with pytest.raises(BadInput, match=says) as caught:
        read_note(tmp_path)
    assert (caught.value.code, caught.value.where) == ("damaged_release", str(tmp_path / "release.json"))


def test_a_folder_that_is_not_a_release_has_no_note(tmp_path):
    assert read_note(tmp_path) is None


def test_a_note_is_read_as_it_was_written_and_does_not_change(tmp_path):
    note = ReleaseNote(
        name="DR1", created_at="2026-01-01T00:00:00+00:00", software="1", nights=("20260101",), exposures=0, rows={},
        ledger="", models={},
    )  # fmt: skip
    (tmp_path / "release.json").write_text(note.model_dump_json())
    assert read_note(tmp_path) == note
    with pytest.raises(ValidationError, match="frozen"):
        note.name = "DR2"
    (tmp_path / "release.json").write_text(note.model_dump_json().replace('"exposures":0', '"exposures":-1'))
    with pytest.raises(BadInput, match="field exposures"):
        read_note(tmp_path)
