"""Which settings are not as this version has them by default."""

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.settings import Settings


def settings_changes(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of a record that differ from the defaults: name, with its section, to value.

    Parameters
    ----------
    recorded
        Section -> key -> value, as a `schemas.ledger.ProvenanceRecord` has them; a key that this version does not know
        counts as changed.
    """
    defaults = dict(_flat({name: field.default for name, field in Settings.model_fields.items()}))
    return {name: value for name, value in _flat(recorded) if name not in defaults or defaults[name] != value}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        if isinstance(plain, Mapping) and plain:
            yield from _flat(plain, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain
