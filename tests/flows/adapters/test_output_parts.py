import pytest

from flows.adapters.output_parts import PARTS, require_output
from schemas.errors import Misconfigured


@pytest.mark.parametrize("part", PARTS)
def test_one_part_is_enough(tmp_path, part):
    (tmp_path / part).mkdir()
    require_output(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"), [(".", "it has neither ledger/ nor catalogs/"), ("absent", "there is no folder of this name")]
)
def test_anything_else_is_none(tmp_path, name, says):
    (tmp_path / "images").mkdir()
    with pytest.raises(Misconfigured, match=f"is no output folder: {says}.*To fix, name the --out of a run") as caught:
        require_output(tmp_path / name)
    assert caught.value.code == "no_output"
