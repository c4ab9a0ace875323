"""Settings and their sources: file < environment < command line."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from flows.runtime.secrets import without_passwords
from schemas.errors import Misconfigured, choice
from schemas.settings import STAGES, Section, Settings, StoreSettings


@cache
def settings_class() -> type[Settings]:
    """Return the class of all settings: `Settings`, with a section for each stage of another package that declares one.

    Raises
    ------
    Misconfigured
        A section of another package is not a `Section`, has a name already taken, or has fields without a default.
    """
    if not entry_points(group=STAGES):
        return Settings
    from schemas.stage import registered_stages  # importing numpy and pyarrow takes longer than reading the settings

    fields: dict[str, Any] = {}
    for stage in registered_stages():
        if stage.settings is None:
            continue
        where, remedy = f"stage {stage.name!r}", "correct the package that registers it."
        if stage.name in Settings.model_fields or stage.name in fields:
            raise Misconfigured("bad_stage", where, f"there is a section [{stage.name}] already.", remedy)
        if not issubclass(stage.settings, Section):
            problem = f"its settings {stage.settings.__name__} are not a schemas.settings.Section."
            raise Misconfigured("bad_stage", where, problem, remedy)
        try:
            fields[stage.name] = (stage.settings, stage.settings())
        except ValidationError as error:
            raise Misconfigured("bad_stage", where, f"its settings need a default each: {error}.", remedy) from error
    if not fields:
        return Settings
    # Pickle finds the class under this name, in workers too: see `__getattr__`.
    return create_model("ExtendedSettings", __base__=Settings, __module__=__name__, **fields)


def __getattr__(name: str) -> Any:
    if name == "ExtendedSettings":
        return settings_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def require_there(path: Path, what: str) -> None:
    """Check that a file or folder exists, before its content is checked.

    Parameters
    ----------
    path
        Path as given.
    what
        What it should be, and how to name it: the end of the sentence "To fix, correct the path, or name ...".

    Raises
    ------
    Misconfigured
        It does not exist (``no_such_file``).
    """
    if not path.exists():
        raise Misconfigured("no_such_file", str(path), "does not exist.", f"correct the path, or name {what}")


Place = tuple[int | str, ...]
"""Place of a value: section, key and so on."""

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
"""Type of a pydantic error -> the rule in our words. The messages of other errors are plain enough."""


def misconfigured(errors: Sequence[ErrorDetails], file: Path | None = None) -> Misconfigured:
    """Combine all errors that pydantic found into one of ours, each with its name, value and rule.

    Parameters
    ----------
    errors
        Errors of `schemas.settings.Settings`.
    file
        Settings file that was read; None: there was none.
    """
    everywhere = "correct it in the settings file, the environment (NIGHTSTRIDE_<SECTION>__<KEY>) or the command line."
    faults = [(_name(error["loc"]), *_fault(error)) for error in errors]
    if len(faults) == 1:
        ((name, problem, remedy),) = faults
        return Misconfigured("setting", name, f"{problem}.", remedy or everywhere)
    lines = [f"\n  {name}: {problem}{f'; to fix, {remedy}' if remedy else '.'}" for name, problem, remedy in faults]
    where = "settings" if file is None else f"settings, with {file}"
    return Misconfigured(
        "setting", where, f"{len(faults)} are wrong:{''.join(lines)}\n", everywhere.replace("it", "them", 1)
    )


def _fault(error: ErrorDetails) -> tuple[str, str]:
    """Return what is wrong, and a specific remedy if there is one."""
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
    for section in settings_class().model_fields:
        yield section, _known((section,))


def _known(place: Place) -> tuple[str, ...]:
    """Return the names that exist at a place."""
    model: type[BaseModel] | None = settings_class()
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


DEFAULT_FILE = Path("nightstride.toml")
"""Settings file in the working folder, read if no other is named."""

_PREFIX = "NIGHTSTRIDE_"


def load_settings(config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Read the settings of a command.

    Parameters
    ----------
    config
        TOML file; None: ``nightstride.toml`` in the working folder, if there is one.
    overrides
        Section -> key -> value from the command line; None: not given.

    Raises
    ------
    Misconfigured
        The file does not exist or cannot be read, or values break rules; the message names all of them.
    """
    _refuse_unknown_sections()
    given = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in (overrides or {}).items()
    }
    try:
        return settings_class()(**_merged(_without_command_line(config), given))
    except ValidationError as error:
        raise misconfigured(error.errors(), _file(config)) from error


def load_store_settings() -> StoreSettings:
    """Return the settings of object stores, from file and environment; sections that need the command line are ignored.

    Raises
    ------
    Misconfigured
        As for `load_settings`.
    """
    try:
        return StoreSettings.model_validate(_without_command_line(None).get("store", {}))
    except ValidationError as error:
        raise misconfigured([{**one, "loc": ("store", *one["loc"])} for one in error.errors()]) from error


def _without_command_line(config: Path | None) -> dict[str, Any]:
    return _merged(_from_file(config), _from_environment())


def _from_environment() -> dict[str, Any]:
    source = EnvSettingsSource(settings_class())
    try:
        return source()
    except SettingsError as error:
        wrong = [name for name in os.environ if name.upper().startswith(_PREFIX) and not _is_read(source, name)]
        raise Misconfigured(
            "setting",
            ", ".join(sorted(wrong)),
            "cannot be read as what this setting is: a list or a table is JSON in the environment.",
            """write a list as '["…", "…"]', and a table as '{"key": …}'.""",
        ) from error


def _is_read(source: EnvSettingsSource, name: str) -> bool:
    source.env_vars = {name.lower(): os.environ[name]}
    try:
        source()
    except SettingsError:
        return False
    return True


def _file(config: Path | None) -> Path | None:
    """Return the settings file to read; None if there is none."""
    return config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


def _from_file(config: Path | None) -> dict[str, Any]:
    path = _file(config)
    if path is None:
        return {}
    require_there(path, "another settings file (TOML) with --config.")
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Misconfigured(
            "settings_file",
            str(path),
            f"cannot be read: {_unreadable(error)}.",
            "correct it, or name another file.",
        ) from error


def _unreadable(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "the system does not say why"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8, which TOML is written in"
    if isinstance(error, RecursionError):
        return "its lists or tables lie too deep within each other"
    place = re.search(r"line \d+, column \d+", str(error))
    if place is not None and str(error).startswith(("Cannot overwrite", "Cannot declare")):
        return f"a name is given for the second time before {place[0]}"
    return f"it is not TOML at {place[0]}" if place is not None else "it is not TOML: its end comes too early"


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``low`` overridden by the values of ``high``, section by section."""
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _refuse_unknown_sections() -> None:
    # pydantic-settings looks up only the names it knows, so a misspelt section would be ignored silently.
    for name in os.environ:
        section, nested, _ = name.removeprefix(_PREFIX).partition("__")
        if name.startswith(_PREFIX) and nested and section.lower() not in settings_class().model_fields:
            raise Misconfigured(
                "setting",
                name,
                f"no section {section.lower()!r} in the settings.",
                choice(section.lower(), settings_class().model_fields),
            )
