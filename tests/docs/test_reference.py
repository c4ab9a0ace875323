import re
import subprocess
import sys

import pytest

from benchmarks.house import reference
from flows.pipeline.graph import declared_arrays, declared_tables

NAMES = ("settings.md", "commands.md", "columns.md", "errors.md", "python.md")


@pytest.fixture(scope="module")
def pages():
    return reference.pages()


def test_each_page_is_one_of_these(pages):
    assert tuple(pages) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_committed_pages_are_what_the_generator_makes(pages, name):
    committed = (reference.FOLDER / name).read_text()
    assert committed == pages[name], "python -m benchmarks.house.reference writes the pages"


def test_a_changed_page_is_noticed(pages, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    monkeypatch.setattr(reference, "pages", lambda: pages)
    monkeypatch.setattr(sys, "argv", ["reference"])
    reference.main()
    assert {path.name for path in tmp_path.iterdir()} == pages.keys()
    (tmp_path / "settings.md").write_text("another text")
    monkeypatch.setattr(sys, "argv", ["reference", "--check"])
    with pytest.raises(SystemExit) as caught:
        reference.main()
    assert "settings.md" in str(caught.value)
    assert "columns.md" not in str(caught.value)
    assert (tmp_path / "settings.md").read_text() == "another text"


def test_settings_have_values_defaults_and_limits(pages):
    page = pages["settings.md"]
    assert '| `codec` | `none`, `lz4`, `zstd` | `"lz4"` | Compression of the tiles, lossless. |' in page
    assert "(> 0, < 1) |" in page
    assert "`[fits.gain]`" in page
    assert "## `[cluster.slurm]`" in page


def test_commands_have_all_their_options(pages):
    shown = subprocess.run(
        [sys.executable, "-c", "from flows.cli.app import app; app()", "prune", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    section = pages["commands.md"].split("## nightstride prune")[1].split("\n## ")[0]
    for option in ("--keep", "--older-than", "--irreplaceable", "--yes-really", "--dry-run", "--config", "--json"):
        assert option in shown
        assert f"`{option}`" in section


def test_columns_of_bands_are_listed_once(pages):
    page = pages["columns.md"]
    assert "| `BAND_psfFlux` | float, nullable | nJy |" in page
    assert "`g_psfFlux`" not in page
    assert "1 EDGE, 2 SATURATED, 4 MASKED, 8 DIPOLE" in page
    for dataset in ("dia_source", "object", "cutouts", "spectral_class", "forced_source", "truth"):
        assert f"## {dataset}\n" in page


def test_columns_of_everything_that_is_published_are_listed(pages):
    listed = set(re.findall(r"^## (\w+)$", pages["columns.md"], re.MULTILINE))
    assert declared_tables().keys() | declared_arrays() <= listed
