"""A report in the formats of the Minor Planet Center: ADES as text with bars (PSV) or as XML, and 80 columns."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from flows.publish.ades_record import ELEMENTS, AdesContext, AdesObservation
from kernels.orbits.designations import Designation, packed
from schemas.ades import ADES_VERSION, BANDS
from schemas.errors import BadInput

FORMS = {"psv": "psv", "xml": "xml", "obs80": "txt"}
"""Format -> suffix of its file."""

_ALWAYS = ("permID", "provID", "trkSub")
"""Columns that a table has even if empty: its first has to be permID."""

Header = list[tuple[str, str | list[tuple[str, str]]]]
"""Element of the header -> its text, or its own elements."""


def written(context: AdesContext, observations: Sequence[AdesObservation], form: str) -> str:
    """Return a report.

    Parameters
    ----------
    context, observations
        One block: all observations are of the observatory of the header.
    form
        One of `FORMS`.

    Raises
    ------
    BadInput
        ``two_stations``: an observation is of another observatory; ``no_observations``: there is none, which ADES does
        not allow; ``no_80_columns``: 80 columns cannot hold one.
    """
    where, remedy = f"report of observatory {context.mpc_code}", "report each observatory by itself."
    if not observations:
        raise BadInput("no_observations", where, "has no observation.", "report what there is.")
    if others := sorted({one.stn for one in observations} - {context.mpc_code}):
        raise BadInput("two_stations", where, f"has observations of {', '.join(others)}.", remedy)
    return {"psv": _psv, "xml": _xml, "obs80": _obs80}[form](context, observations)


def _header(context: AdesContext) -> Header:
    telescope = context.telescope
    numbers = {"aperture": telescope.aperture, "fRatio": telescope.f_ratio, "pixelScale": telescope.pixel_scale}
    texts = {"name": telescope.name, "design": telescope.design}
    given = texts | {"aperture": numbers["aperture"]} | {"detector": telescope.detector} | numbers
    parts: Header = [
        ("observatory", [("mpcCode", context.mpc_code)]),
        ("submitter", [("name", context.submitter), *_there("institution", context.institution)]),
        *_names("observers", context.observers),
        *_names("measurers", context.measurers),
        ("telescope", [(name, _text(value)) for name, value in given.items() if value is not None]),
    ]
    parts += _there("fundingSource", context.funding_source)
    if context.comments:
        parts.append(("comment", [("line", one) for one in context.comments]))
    return parts


def _text(value: str | float) -> str:
    """Return a number with four digits, in six characters at most."""
    return value if isinstance(value, str) else f"{value:.4f}"[:6].rstrip("0").rstrip(".")


def _there(name: str, text: str | None) -> list[tuple[str, str]]:
    return [] if text is None else [(name, text)]


def _names(name: str, people: Sequence[str]) -> Header:
    return [(name, [("name", one) for one in people])] if people else []


def _psv(context: AdesContext, observations: Sequence[AdesObservation]) -> str:
    lines = [f"# version={ADES_VERSION}"]
    for name, content in _header(context):
        lines.append(f"# {name} {content}" if isinstance(content, str) else f"# {name}")
        lines += [] if isinstance(content, str) else [f"! {key} {text}" for key, text in content]
    columns = [name for name in ELEMENTS if name in _ALWAYS or any(getattr(one, name) for one in observations)]
    table = [columns, *([getattr(one, name) for name in columns] for one in observations)]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    lines += ["|".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines) + "\n"


def _xml(context: AdesContext, observations: Sequence[AdesObservation]) -> str:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<ades version="{ADES_VERSION}">', "  <obsBlock>"]
    lines.append("    <obsContext>")
    for name, content in _header(context):
        if isinstance(content, str):
            lines.append(f"      {_element(name, content)}")
        else:
            lines += [f"      <{name}>", *(f"        {_element(*one)}" for one in content), f"      </{name}>"]
    lines += ["    </obsContext>", "    <obsData>"]
    for one in observations:
        lines += ["      <optical>", *(f"        {_element(*pair)}" for pair in one.elements().items())]
        lines.append("      </optical>")
    return "\n".join([*lines, "    </obsData>", "  </obsBlock>", "</ades>"]) + "\n"


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


_NOTE_2 = {"CCD": "C", "CMO": "B", "VID": "n", "TDI": "C"}


def _obs80(context: AdesContext, observations: Sequence[AdesObservation]) -> str:
    """Return lines of 80 columns below the lines of the header.

    https://minorplanetcenter.net/iau/info/OpticalObs.html and ObsDetails.html.
    """
    telescope = context.telescope
    ratio = f" f/{telescope.f_ratio:g}" if telescope.f_ratio else ""
    lines = [f"COD {context.mpc_code}", f"CON {context.submitter}"]
    lines += [f"OBS {', '.join(context.observers)}"] if context.observers else []
    lines.append(f"MEA {', '.join(context.measurers)}")
    lines.append(f"TEL {telescope.aperture:g}-m{ratio} {telescope.design} + {telescope.detector}")
    lines.append(f"NET {observations[0].astCat}")
    lines += [f"COM {one}" for one in context.comments]
    lines.append(f"NUM {len(observations)}")
    return "\n".join([*lines, *map(obs80_line, observations)]) + "\n"


def obs80_line(one: AdesObservation) -> str:
    """Return an observation in 80 columns; `BadInput` (``no_80_columns``) if they cannot hold it."""
    try:
        known = Designation(one.permID, one.provID)
        name = packed(known) if any(known) else f"{one.trkSub:>12}"
        if not any(known) and re.fullmatch("[A-Za-z][A-Za-z0-9]{0,6}", one.trkSub) is None:
            raise ValueError(f"trkSub {one.trkSub!r} is not a letter and up to six letters and digits")
        if len(one.stn) != 3:
            raise ValueError(f"the code {one.stn} of the observatory takes more than 3 columns")
    except ValueError as error:
        where = f"detection {one.obsSubID}"
        raise BadInput("no_80_columns", where, f"{error}.", "report it with --format psv or xml.") from error
    mag = f"{float(one.mag):5.2f}{BANDS[one.band]}" if one.mag else " " * 6
    place = f"{_sexagesimal(float(one.ra) / 15, 3, 24)}{_signed(float(one.dec))}"
    return f"{name} {one.notes[:1]:1}{_NOTE_2.get(one.mode, ' ')}{_day(one.obsTime)}{place}{'':9}{mag}{'':6}{one.stn}"


def _day(utc: str) -> str:
    """Return a time as year, month and day to 1e-6 d, in 17 columns; a leap second counts to the end of its day."""
    date, clock = utc.rstrip("Z").split("T")
    hour, minute, second = clock.split(":")
    fraction = min((int(hour) * 3600 + int(minute) * 60 + float(second)) / 86400, 0.999999)
    return f"{date.replace('-', ' ')}{f'{fraction:.6f}'[1:]}"


def _sexagesimal(value: float, decimals: int, turn: int) -> str:
    """Return a value in units, of which ``turn`` are as good as none, minutes and seconds with so many decimals."""
    seconds, fraction = divmod(round(value * 3600 * 10**decimals), 10**decimals)
    return f"{seconds // 3600 % turn:02d} {seconds // 60 % 60:02d} {seconds % 60:02d}.{fraction:0{decimals}d}"


def _signed(dec: float) -> str:
    return f"{'-' if dec < 0 else '+'}{_sexagesimal(abs(dec), 2, 360)}"
