"""Options of the benchmarks, by their defaults."""

import sys
from pathlib import Path

import pytest

from benchmarks.support.command_line import command_line


@pytest.fixture
def read(monkeypatch):
    def read(*words):
        monkeypatch.setattr(sys, "argv", ["program", *words])
        given = command_line(
            "What it is.", "night", ("data*", "more"), trails=(400, "each"), per_image=2.0, name="x", full=False,
            snr=[8.0, 12.0], stamps=([Path], "files"), work=Path,
        )  # fmt: skip
        return vars(given)

    return read


def test_defaults_are_of_their_types(read):
    assert read("here") == {
        "night": Path("here"), "data": [], "trails": 400, "per_image": 2.0, "name": "x", "full": False,
        "snr": [8.0, 12.0], "stamps": [], "work": None,
    }  # fmt: skip


def test_what_is_given_has_the_type_of_the_default(read):
    words = "here a b --trails 3 --per-image 1 --name 7 --full --snr 5 --stamps a b --work c"
    assert read(*words.split()) == {
        "night": Path("here"), "data": [Path("a"), Path("b")], "trails": 3, "per_image": 1.0, "name": "7",
        "full": True, "snr": [5.0], "stamps": [Path("a"), Path("b")], "work": Path("c"),
    }  # fmt: skip


def test_help_has_all_that_is_said(read, capsys):
    with pytest.raises(SystemExit):
        read("--help")
    said = capsys.readouterr().out
    assert [word for word in ("What it is.", "more", "each", "files") if word not in said] == []
