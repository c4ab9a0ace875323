"""What is wrong with settings, in words: all of it at once."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from flows.nearest_name import choice
from flows.url_secrets import without_passwords
from schemas.errors import Misconfigured
from schemas.settings import Settings

Place = tuple[int | str, ...]
"""Section, key and so on."""

_RULES = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text, in quotes",
    "path_type": "must be a path, in quotes",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a table of keys and values",
    "model_type": "must be a table of keys and values",
    "missing": "must be given",
}
"""Type of an error of pydantic -> the rule in our words. Of others the message itself is plain."""


def misconfigured(errors: Sequence[ErrorDetails]) -> Misconfigured:
    """Make one error of ours of all that pydantic found: each with its name, value and rule.

    Parameters
    ----------
    errors
        Of `schemas.settings.Settings`.
    """
    everywhere = "correct it in the settings file, the environment (NIGHTSTRIDE_<SECTION>__<KEY>) or the command line."
    faults = [(_name(error["loc"]), *_fault(error)) for error in errors]
    if len(faults) == 1:
        ((name, problem, remedy),) = faults
        return Misconfigured("setting", name, f"{problem}.", remedy or everywhere)
    lines = [f"\n  {name}: {problem}{f'; to fix, {remedy}' if remedy else '.'}" for name, problem, remedy in faults]
    return Misconfigured(
        "setting", "settings", f"{len(faults)} are wrong:{''.join(lines)}\n", everywhere.replace("it", "them", 1)
    )


def _fault(error: ErrorDetails) -> tuple[str, str]:
    """Give what is wrong, and a remedy of its own if there is one."""
    place = error["loc"]
    if error["type"] == "extra_forbidden":
        return _unknown(place)
    got = "" if isinstance(error["input"], dict | BaseModel) else f", got {without_passwords(repr(error['input']))}"
    rule = _RULES.get(error["type"], error["msg"].removeprefix("Value error, ").replace("Input should be", "must be"))
    return f"{rule}{got if error['type'] != 'missing' else ''}", ""


def _unknown(place: Place) -> tuple[str, str]:
    name = str(place[-1])
    what = f"there is no setting of this name in [{_name(place[:-1])}]" if place[:-1] else "there is no such section"
    elsewhere = [section for section, keys in _sections() if name in keys and (section,) != place[:-1]]
    if elsewhere:
        return what, f"write it under {' or '.join(f'[{section}]' for section in elsewhere)}."
    return what, choice(name, _known(place[:-1]))


def _sections() -> Iterator[tuple[str, tuple[str, ...]]]:
    for section in Settings.model_fields:
        yield section, _known((section,))


def _known(place: Place) -> tuple[str, ...]:
    """Give the names that there are at a place."""
    model: type[BaseModel] | None = Settings
    for part in place:
        field = model.model_fields.get(str(part)) if model is not None else None
        model = None if field is None else _model_of(field.annotation)
    return tuple(model.model_fields) if model is not None else ()


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _name(place: Place) -> str:
    return ".".join(map(str, place)) or "settings"
