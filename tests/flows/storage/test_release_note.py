import pytest

from flows.storage.release_note import read_note
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
