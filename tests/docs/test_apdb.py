"""The page about Rubin's database: what it shows makes a database, fills it and reads it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.alert_night import make_night
from tests.support.cli import nightstride

pytest.importorskip("lsst.dax.apdb")

TEXT = (Path(__file__).parents[2] / "docs/use/apdb.md").read_text()


def test_the_database_of_the_page_is_made_filled_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = make_night(tmp_path / "out", visits=2)
    (line,) = re.findall(r"^apdb-cli (create-sql sqlite:.*)$", TEXT, re.MULTILINE)
    words = line.replace("//data/", f"/{tmp_path}/").split()
    subprocess.run([Path(sys.executable).with_name("apdb-cli"), *words], check=True)
    assert nightstride("apdb", out, "--to", "apdb.yaml").code == 0
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    found = {}
    exec(block, found)
    assert len(found["objects"]) == 12
    assert len(found["sources"]) == 24
    found["apdb"]._engine.dispose()  # the package closes nothing itself
