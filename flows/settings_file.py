"""Settings from where users put them: file < environment < command line."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from flows.adapters.given_file import require_there
from flows.nearest_name import choice
from flows.settings_fault import misconfigured
from schemas.errors import Misconfigured
from schemas.settings import Settings

DEFAULT_FILE = Path("nightstride.toml")
"""Read from the working folder when no file is named."""

_PREFIX = "NIGHTSTRIDE_"


def load_settings(config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Read the settings of a command.

    Parameters
    ----------
    config
        TOML file; None: ``nightstride.toml`` in the working folder, if there is one.
    overrides
        Section -> key -> value from the command line; a value of None was not given.

    Raises
    ------
    Misconfigured
        The file is not there or cannot be read, or values break rules; the message names all of them.
    """
    _refuse_unknown_sections()
    given = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in (overrides or {}).items()
    }
    try:
        environment = EnvSettingsSource(Settings)()
        return Settings(**_merged(_merged(_from_file(config), environment), given))
    except ValidationError as error:
        raise misconfigured(error.errors()) from error


def _from_file(config: Path | None) -> dict[str, Any]:
    path = config or DEFAULT_FILE
    if config is None and not path.exists():
        return {}
    require_there(path, "another settings file (TOML) with --config.")
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(
            "settings_file",
            str(path),
            f"cannot be read as TOML: {error}.",
            "correct it, or name another file.",
        ) from error


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """``low`` with the values of ``high`` put over it, section by section."""
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _refuse_unknown_sections() -> None:
    # pydantic-settings looks up the names that it knows, so a misspelt section would be ignored in silence.
    for name in os.environ:
        section, nested, _ = name.removeprefix(_PREFIX).partition("__")
        if name.startswith(_PREFIX) and nested and section.lower() not in Settings.model_fields:
            raise Misconfigured(
                "setting",
                name,
                f"no section {section.lower()!r} in the settings.",
                choice(section.lower(), Settings.model_fields),
            )
