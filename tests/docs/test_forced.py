import re
from pathlib import Path

from flows.results.forced.target_file import UNITS, read_target_file
from flows.results.forced.targets import forced_targets
from schemas.forced import ForcedFlag

PAGE = (Path(__file__).parents[2] / "docs/use/forced.md").read_text()


def test_example_is_a_list_of_targets(tmp_path):
    (tmp_path / "list.csv").write_text(re.findall(r"^```\n(name,.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0])
    targets, bad = forced_targets(read_target_file(tmp_path / "list.csv"))
    assert bad == ()
    assert targets.name.tolist() == ["(433) Eros", "2021 AB12"]
    assert targets.rate.tolist() == [(112.0**2 + 40.5**2) ** 0.5, (31.2**2 + 12.9**2) ** 0.5]


def test_every_column_and_unit_of_a_list_is_there():
    table = PAGE.split("| column | unit | what |")[1].split("\n\n")[0]
    assert all(re.search(rf"\b{name}\b", table) for name in ("name", *UNITS))
    assert all(unit in table for unit in UNITS.values())


def test_flags_on_the_page_are_flags():
    named = set(re.findall(r"flags?\s+`([A-Z_]+)`", PAGE))
    assert named == {"NOT_MEASURED", "BLENDED", "CONTAMINATED"}
    assert named <= {flag.name for flag in ForcedFlag}
