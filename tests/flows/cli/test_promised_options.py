"""What docs/reference/commands.md promises of all commands, and the limits of their options."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from benchmarks.house import reference
from flows.cli import (  # noqa: F401 the modules whose options these are
    app,
    backfill,
    bench,
    doctor,
    evaluate,
    fetch,
    look,
    options,
    output,
    run,
    serve,
    simulate,
    train,
    vet,
    watch,
)

PAGE = (Path(__file__).parents[3] / "docs/reference/commands.md").read_text()


COMMANDS = dict(reference.commands("nightstride", get_command(app.app)))


def promised(text):
    """Option -> its default, or that it is required."""
    lines = re.findall(r"^- `(--[\w-]+)[^`]*`(?: \(([^)]*)\))?:", text, re.MULTILINE)
    return {name: usual.removeprefix("default ") for name, usual in lines}


COMMON = promised(PAGE.split("\n## ")[1])
SECTIONS = {part.split("\n")[0]: part for part in PAGE.split("\n## ")[2:]}


@pytest.mark.parametrize("name", COMMANDS)
def test_options_and_their_defaults_are_those_that_users_are_told(name):
    (shared,) = re.findall(r"^- Common: (.*)$", SECTIONS[name], re.MULTILINE) or [""]
    told = promised(SECTIONS[name]) | {one: COMMON[one] for one in re.findall(r"`(--[\w-]+)[^`]*`", shared)}
    found = {}
    for one in COMMANDS[name].params:
        if one.param_type_name == "option":
            value = getattr(one.default, "value", one.default)
            unset = value in (None, (), False) or callable(value)
            found[one.opts[0]] = "required" if one.required else "" if unset else str(value)
    assert found == told


PICTURES = ("cluster", "membership", "morphology", "scene")
SEED = (0, 4_000_000_000)  # and what is added to it is below 2^32, beyond which numpy takes none
LIMITS = {
    "alerts show": {"limit": (1, None), "skip": (0, None)},
    "alerts tail": {"idle_exit": (0, None), "most": (1, None)},
    "backfill": {"nice": (0, 19), "pause": (0, None)},
    "bench": {"repeats": (1, None), "threads": (1, None)},
    "forced": {"sigma": (1.0, 10.0)},
    "link": {"nights": (3, 30)},
    "prune": {"keep": (0, None), "older_than": (0, None)},
    "run": {"wait": (0, None)},
    "deploy": {"retries": (0, None), "retry_delay": (0, None), "wait": (0, None)},
    "simulate": {"seed": (0, None), "workers": (1, None)},
    "train anomaly": {"batch": (1, None), "epochs": (1, None), "milestone": (1, None), "seed": SEED},
    **{f"train {one}": {"repeats": (1, None), "seed": SEED} for one in PICTURES},
    **{f"train {one}": {"seed": SEED, "workers": (1, None)} for one in ("detect", "screen", "star-galaxy")},
    "train spectral-class": {"seed": SEED, "stars": (0, None)},
    "vet": {"port": (0, 65535), "recheck": (0.0, 0.5)},
    "watch": {
        "still": (0, None), "poll": (0.05, None), "queue": (1, None), "combine_after": (0, None),
        "idle_exit": (0, None), "wait": (0, None),
    },
}  # fmt: skip
"""Command -> option -> the least and the largest value that mean something."""


def test_values_that_mean_nothing_are_refused():
    found = {}
    for name, command in COMMANDS.items():
        for one in command.params:
            ends = getattr(one, "min", None), getattr(one, "max", None)
            if ends != (None, None):
                group = "bench" if name.startswith("nightstride bench") else name.removeprefix("nightstride ")
                found.setdefault(group, {})[one.name] = ends
    assert found == LIMITS
