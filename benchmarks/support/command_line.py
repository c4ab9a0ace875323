"""Command lines of the benchmarks."""

import argparse
from pathlib import Path


def command_line(description, *places, **options):
    """Return what a command line gives.

    Parameters
    ----------
    description
        The words that ``--help`` begins with.
    places
        Names of paths that are given without an option, with "+" or "*" after that of a list.
    options
        Default of each option, which is of its type: False makes a flag, a list takes several values, and a type alone
        stands for an option without a default, or in a list for one of several values, none by default.

    A pair is any of these and its help.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for place, help_ in map(_with_help, places):
        many = {"nargs": place[-1]} if place[-1] in "+*" else {}
        parser.add_argument(place.rstrip("+*"), type=Path, help=help_, **many)
    for name, (default, help_) in zip(options, map(_with_help, options.values()), strict=True):
        parser.add_argument(f"--{name.replace('_', '-')}", help=help_, **_kind(default))
    return parser.parse_args()


def _with_help(given):
    return given if isinstance(given, tuple) else (given, None)


def _kind(default):
    if isinstance(default, type):
        return {"type": default}
    if default is False:
        return {"action": "store_true"}
    if isinstance(default, list):
        (one, *_) = default
        return {"nargs": "+"} | (
            {"type": one, "default": []} if isinstance(one, type) else {"type": type(one), "default": default}
        )
    return {"type": type(default), "default": default}
