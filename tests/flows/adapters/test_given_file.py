import pytest

from flows.adapters.given_file import require_there
from schemas.errors import Misconfigured


def test_what_is_there_passes(tmp_path):
    (tmp_path / "list.csv").touch()
    for path in (tmp_path, tmp_path / "list.csv"):
        require_there(path, "another.")


def test_what_is_not_there_is_named_with_what_to_do(tmp_path):
    with pytest.raises(
        Misconfigured, match=r"list\.csv: does not exist\. To fix, correct the path, or name a list\."
    ) as e:
        require_there(tmp_path / "list.csv", "a list.")
    assert e.value.code == "no_such_file"
