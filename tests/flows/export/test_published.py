import pytest

from flows.export.published import published_files, published_table
from schemas.errors import Misconfigured
from schemas.object import OBJECT
from tests.flows.export.export_support import NIGHTS, publish

TABLES = {"object": OBJECT}


def test_gives_all_nights_or_one(tmp_path):
    whole = publish(tmp_path)
    assert published_table(published_files(tmp_path, "object", TABLES), OBJECT).equals(whole)
    second = published_table(published_files(tmp_path, "object", TABLES, NIGHTS[1]), OBJECT)
    assert second.equals(whole.slice(30))


@pytest.mark.parametrize(
    ("name", "night", "says"),
    [("objcet", None, "'objcet' is no dataset"), ("object", "20200101", "of night 20200101")],
)
def test_says_what_there_is(tmp_path, name, night, says):
    publish(tmp_path)
    with pytest.raises(Misconfigured, match=says + r".*choose one of \['object'\]"):
        published_files(tmp_path, name, TABLES, night)
    with pytest.raises(Misconfigured, match=r"folder of a `nightstride run`"):
        published_files(tmp_path / "empty", "object", TABLES)
