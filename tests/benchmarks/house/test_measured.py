"""Tables that commands write into pages."""

import re
from importlib.util import find_spec

import pytest

from benchmarks.house.measured import BLOCK, PAGES, measure, tables

TABLE = "| a |\\n| --- |\\n| {} |"
COMMANDS = [
    (path.stem, block["command"]) for path in sorted(PAGES.glob("*.md")) for block in BLOCK.finditer(path.read_text())
]


def page(folder, *blocks):
    """A page with blocks of a command and what is held between its markers."""
    path = folder / "page.md"
    held = (f"<!-- measured by: {command} -->\n{text}\n<!-- end -->\nafter\n" for command, text in blocks)
    path.write_text("before\n" + "".join(held))
    return path


def printing(text):
    """A command that prints a text."""
    return f"python -c \"print('{text}')\""


def test_tables_of_a_text_are_separated():
    assert tables("x\n| a |\n| b |\nbetween\n| c |\n") == "| a |\n| b |\n\n| c |"


def test_objects_with_the_same_keys_are_a_table():
    said = '{"visits": 3, "trails": true}\n{"visits": 4, "trails": null}\n{"range": [1, 2.5]}\n7\n[1]\n"x"\n{}\n'
    assert (
        tables(said) == "| visits | trails |\n| --- | ---: |\n| 3 | yes |\n| 4 |  |\n\n| range |\n| --- |\n| 1 to 2.5 |"
    )


def test_what_a_command_prints_replaces_what_a_page_holds(tmp_path):
    path = page(tmp_path, (printing(TABLE.format(1)), "old"), (printing(TABLE.format(2)), "kept"))
    assert measure(path, "| 1 |") == []
    first, second = path.read_text().split("after\n")[:2]
    assert re.search(r"-->\nMeasured 20\d\d-\d\d-\d\d\.\n\n\| a \|\n\| --- \|\n\| 1 \|\n<!-- end -->$", first.strip())
    assert first.startswith("before\n")
    assert "\nkept\n" in second


def test_a_section_is_held_as_it_is(tmp_path):
    show = "from benchmarks.support.page import show; print('progress'); show('Words.\\n\\n| a |\\n\\n![x](x.png)', {})"
    dated, plain = (f'python -c "{show.format(weights)}"' for weights in ("()", "None"))
    path = page(tmp_path, (dated, "old"), (plain, "older"))
    assert measure(path) == []
    first, second = path.read_text().split("after\n")[:2]
    assert re.search(
        r"-->\nMeasured 20\d\d-\d\d-\d\d\.\n\nWords\.\n\n\| a \|\n\n!\[x\]\(x\.png\)\n<!-- end -->$", first.strip()
    )
    assert "-->\nWords.\n\n| a |\n" in second


def test_weights_that_a_block_names_get_their_digests(tmp_path):
    path = page(tmp_path, (printing(TABLE.format(1)), "weights: detect/streak_net sha256:000000000000\n\n| a |"))
    assert measure(path) == []
    assert re.search(r"^weights: detect/streak_net sha256:(?!0{12})[0-9a-f]{12}$", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [printing("no table"), 'python -c "raise SystemExit(3)"'])
def test_a_command_that_fails_leaves_the_page_and_lets_others_run(tmp_path, command):
    path = page(tmp_path, (command, "old"), (printing(TABLE.format(2)), "older"))
    (failed,) = measure(path)
    assert command in failed
    assert "\nold\n" in path.read_text()
    assert "| 2 |" in path.read_text()


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_commands_of_the_pages_are_of_this_repository(name, command):
    found = re.match(r"python -m (benchmarks\.\w+)\b", command)
    assert found, name
    assert find_spec(found[1]) is not None
