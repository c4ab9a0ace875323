import pytest

from tests.support.cli import nightstride


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument"),
        (("arriving",), "--out"),
        (("nowhere", "--out", "x"), "there is no such folder"),
        (("", "--out", "x"), "has an empty name"),
        (("kafka://me:secret@host:1/topic", "--out", "x"), "holds a password"),
        (("s3://me:secret@bucket/in", "--out", "x"), "holds a password"),
        (("arriving", "--out", "x", "--queue", "0"), "--queue"),
        (("arriving", "--out", "x", "--deadline", "0"), "execution.visit_deadline_s"),
    ],
)
def test_bad_usage_ends_with_2(tmp_path, arguments, says):
    ended = nightstride("watch", *arguments, cwd=tmp_path)
    assert ended.code == 2
    assert says in ended.stderr
    assert "secret" not in ended.stderr
    assert not (tmp_path / "x").exists()
