import subprocess
import sys
from pathlib import Path

import pytest

NIGHTSTRIDE = Path(sys.executable).with_name("nightstride")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument"),
        (("arriving",), "--out"),
        (("nowhere", "--out", "x"), "there is no such folder"),
        (("kafka://me:secret@host:1/topic", "--out", "x"), "holds a password"),
        (("s3://me:secret@bucket/in", "--out", "x"), "holds a password"),
        (("arriving", "--out", "x", "--queue", "0"), "--queue"),
        (("arriving", "--out", "x", "--deadline", "0"), "execution.visit_deadline_s"),
    ],
)
def test_bad_usage_ends_with_2(tmp_path, arguments, says):
    ended = subprocess.run(
        [NIGHTSTRIDE, "watch", *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "secret" not in ended.stderr
    assert not (tmp_path / "x").exists()
