"""What docs/use/vetting.md shows, run against a server of a night."""

import re
from pathlib import Path

import pytest

from flows.vetting.server import Workplace
from schemas.vetting import Verdict
from tests.support.vetting import TOKEN, build, serving

PAGE = Path(__file__).parents[2] / "docs/use/vetting.md"
TABLE = re.compile(r"^\| `(GET|POST) (/[\w/{}-]*)", re.MULTILINE)


@pytest.mark.xdist_group("vet")
def test_a_program_judges_and_takes_back(tmp_path):
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    build(tmp_path / "out")
    with serving(place := Workplace(tmp_path / "out", recheck=0.0)) as served:
        assert "http://localhost:8462" in block
        found = {"TOKEN": TOKEN}
        exec(block.replace("http://localhost:8462", served.address), found)
        judged = (tmp_path / "out/vetting/verdicts.jsonl").read_text().splitlines()
        assert len(judged) == 2
        assert found["first"]["id"] in judged[0]
        assert found["first"]["id"] != found["second"]["id"]
        assert place.verdicts.standing() == []


def test_every_verdict_and_request_is_named():
    text = PAGE.read_text()
    for verdict in Verdict:
        assert str(verdict) in text
    assert {path for _, path in TABLE.findall(text)} == {"/next", "/candidate/ID", "/user", "/verdict", "/undo"}
