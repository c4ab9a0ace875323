"""Tables on the terminal, for rows and nested figures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Minimum width of a line, characters, so that cells are not cut off."""


def show_rows(shown: "Console", rows: Iterable[Mapping[str, Any]], title: str = "") -> None:
    """Print a table with a column for each key of the rows, numbers right-aligned; nothing if there are no rows.

    Parameters
    ----------
    shown
        Console to print on.
    rows
        Mappings with the same keys; a missing value is shown as a dash.
    title
        Title above the table.
    """
    from rich.table import Table
    from rich.text import Text

    known = list(rows)
    names = list(dict.fromkeys(name for row in known for name in row))
    table = Table(box=None, pad_edge=False)
    for name in names:
        numbers = all(isinstance(row.get(name), int | float | None) for row in known)
        table.add_column(_words(name), justify="right" if numbers else "left", overflow="fold")
    for row in known:
        table.add_row(*(Text(cell(row.get(name))) for name in names))
    if known:
        shown.width = max(shown.width, WIDTH)
        if title:
            shown.print(title, style="bold", highlight=False, markup=False)
        shown.print(table)


def show_figures(shown: "Console", figures: Mapping[str, Any], title: str = "", classes: Sequence[str] = ()) -> None:
    """Print nested figures as tables: one for the single values, and one for each mapping or list of mappings.

    Parameters
    ----------
    shown
        Console to print on.
    figures
        Figures by name; ``classes`` or ``kinds`` among them name rows and columns of a ``confusion`` beside or below
        them.
    title
        Title above the tables.
    classes
        Names for a ``confusion`` if the figures have none.
    """
    classes = next((figures[name] for name in ("classes", "kinds") if _is_names(figures.get(name))), classes)
    single, nested = dict[str, Any](), dict[str, Any]()
    for name, value in figures.items():
        (nested if _is_nested(value) else single)[name] = value
    show_rows(shown, ({title or "figure": _words(name), "value": cell(value)} for name, value in single.items()))
    for name, value in nested.items():
        above = f"{title}, {_words(name)}" if title else _words(name)
        if isinstance(value, Mapping) and not all(_is_flat(one) for one in value.values()):
            show_figures(shown, value, above, classes)
            continue
        shown.print()
        if name == "confusion" and len(value) == len(classes):
            show_rows(shown, _named_rows(value, classes), f"{above} (rows: label, columns: verdict)")
        else:
            show_rows(shown, _rows(value), above)


def _rows(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a mapping of mappings, a list of mappings, or a matrix."""
    if isinstance(value, Mapping):
        yield from ({"": _words(str(name)), **one} for name, one in value.items())
        return
    for place, one in enumerate(value):
        yield dict(one) if isinstance(one, Mapping) else {"": place, **{str(k): each for k, each in enumerate(one)}}


def _named_rows(table: Sequence[Sequence[int]], classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for name, row in zip(classes, table, strict=True):
        yield {"": _words(name), **dict(zip(classes, row, strict=True))}


def _is_names(value: Any) -> bool:
    return _is_list(value) and all(isinstance(one, str) for one in value)


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return _is_list(value) and bool(value) and all(isinstance(one, Mapping) or _is_list(one) for one in value)


def _is_flat(value: Any) -> bool:
    return isinstance(value, Mapping) and not any(isinstance(one, Mapping) for one in value.values())


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def cell(value: Any) -> str:
    """Return a value as shown in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(name)} {cell(one)}" for name, one in value.items()) or "-"
    if _is_list(value):
        return ", ".join(map(cell, value)) or "-"
    return str(value)
