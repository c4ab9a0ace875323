import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/use/python.md"
pytest_plugins = ("tests.support.linked_fixture",)


def test_every_block_of_the_page_runs(linked, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = {"out": linked[0].out}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE}: block {number}", "exec"), names)
    assert len(blocks) == 6
    assert names["one"].nights == names["some"].nights == names["same"].nights == ("20261103",)
    assert len(names["frame"]) == len(names["arrow"]) == len(names["polars"]) == len(names["quantities"]) > 0
    assert names["cutout"].difference.shape == (41, 41)
    assert "('20261103',) 15" in capsys.readouterr().out


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (PAGE.parent / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["association.md", "linking.md"])
def test_snippets_of_other_pages_run(linked, page, capsys):
    (snippet,) = (one for one in blocks(page) if "static_object" not in one)
    names = {"out": str(linked[0].out)}
    exec(compile(snippet, page, "exec"), names)
    if page == "association.md":
        assert names["light_curves"].collect().height == 3
    else:
        assert len(names["members"]) == names["best"]["nSources"].sum()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".vot", ".votable", ".xml", ".fits", ".reg", ".hats"])
def test_every_ending_is_told(suffix):
    assert f"`{suffix}`" in PAGE.read_text()
