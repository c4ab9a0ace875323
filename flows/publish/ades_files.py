"""Report files: writing in ADES (PSV or XML) or in 80 columns, and reading of ADES with line numbers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from xml.parsers import expat
from xml.sax.saxutils import escape

from flows.publish.ades_record import ELEMENTS, AdesContext, AdesObservation
from flows.runtime.settings import require_there
from kernels.orbits.designations import Designation, packed
from schemas.ades import ADES_VERSION, BANDS
from schemas.errors import BadInput

FORMS = {"psv": "psv", "xml": "xml", "obs80": "txt"}
"""Format -> suffix of its file."""

_ALWAYS = ("permID", "provID", "trkSub")
"""Columns that a table has even if empty: permID must be its first."""

Header = list[tuple[str, str | list[tuple[str, str]]]]
"""Element of the header -> its text, or its own elements."""


def written(context: AdesContext, observations: Sequence[AdesObservation], form: str) -> str:
    """Return the text of a report.

    Parameters
    ----------
    context, observations
        Header and observations of one block, all from the observatory of the header.
    form
        One of `FORMS`.

    Raises
    ------
    BadInput
        ``two_stations``: an observation is from another observatory; ``no_observations``: there are none, which ADES
        does not allow; ``no_80_columns``: an observation does not fit in 80 columns.
    """
    where, remedy = f"report of observatory {context.mpc_code}", "report each observatory by itself."
    if not observations:
        raise BadInput("no_observations", where, "has no observation.", "report what there is.")
    if others := sorted({one.stn for one in observations} - {context.mpc_code}):
        raise BadInput("two_stations", where, f"has observations of {', '.join(others)}.", remedy)
    return {"psv": as_psv, "xml": as_xml, "obs80": as_obs80}[form](context, observations)


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
    """Return a number with four digits, in at most six characters."""
    return value if isinstance(value, str) else f"{value:.4f}"[:6].rstrip("0").rstrip(".")


def _there(name: str, text: str | None) -> list[tuple[str, str]]:
    return [] if text is None else [(name, text)]


def _names(name: str, people: Sequence[str]) -> Header:
    return [(name, [("name", one) for one in people])] if people else []


def as_psv(context: AdesContext, observations: Sequence[AdesObservation]) -> str:
    """Return a report as PSV, in aligned columns; columns without values are left out."""
    lines = [f"# version={ADES_VERSION}"]
    for name, content in _header(context):
        lines.append(f"# {name} {content}" if isinstance(content, str) else f"# {name}")
        lines += [] if isinstance(content, str) else [f"! {key} {text}" for key, text in content]
    columns = [name for name in ELEMENTS if name in _ALWAYS or any(getattr(one, name) for one in observations)]
    table = [columns, *([getattr(one, name) for name in columns] for one in observations)]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    lines += ["|".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines) + "\n"


def as_xml(context: AdesContext, observations: Sequence[AdesObservation]) -> str:
    """Return a report as XML, with elements in the order of the schema."""
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


_WIDTH = 80
_NOTE_2 = {"CCD": "C", "CMO": "B", "VID": "n", "TDI": "C"}


def as_obs80(context: AdesContext, observations: Sequence[AdesObservation]) -> str:
    """Return a report as header lines followed by lines of 80 columns.

    https://minorplanetcenter.net/iau/info/OpticalObs.html and ObsDetails.html.
    """
    telescope = context.telescope
    ratio = f" f/{telescope.f_ratio:g}" if telescope.f_ratio else ""
    lines = [f"COD {context.mpc_code}", *_header_80("CON", [context.submitter])]
    lines += _header_80("OBS", context.observers) + _header_80("MEA", context.measurers)
    lines.append(f"TEL {telescope.aperture:g}-m{ratio} {telescope.design} + {telescope.detector}")
    lines.append(f"NET {observations[0].astCat}")
    lines += [line for one in context.comments for line in _header_80("COM", [one])]
    lines.append(f"NUM {len(observations)}")
    return "\n".join([*lines, *map(obs80_line, observations)]) + "\n"


def _header_80(keyword: str, texts: Sequence[str]) -> list[str]:
    """Return texts, with commas between them, as header lines of 80 columns at most, each with the keyword.

    A line ends between two texts where that is possible, else between words.
    """
    lines = list[str]()
    for text in [*(f"{one}," for one in texts[:-1]), *texts[-1:]]:
        if lines and len(lines[-1]) + 1 + len(text) <= _WIDTH:
            lines[-1] += f" {text}"
        else:
            lines += [f"{keyword} {part}" for part in wrap(text, _WIDTH - len(keyword) - 1, break_on_hyphens=False)]
    return lines


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
    """Return a value as units (modulo ``turn``), minutes, and seconds with a given number of decimals."""
    seconds, fraction = divmod(round(value * 3600 * 10**decimals), 10**decimals)
    return f"{seconds // 3600 % turn:02d} {seconds // 60 % 60:02d} {seconds % 60:02d}.{fraction:0{decimals}d}"


def _signed(dec: float) -> str:
    return f"{'-' if dec < 0 else '+'}{_sexagesimal(abs(dec), 2, 360)}"


KINDS = ("optical", "offset", "occultation", "radar")


@dataclass
class Element:
    """Element: name, text, child elements, and line number."""

    name: str
    line: int
    text: str = ""
    parts: list["Element"] = field(default_factory=list)

    def find(self, name: str) -> "Element | None":
        """Return the first child element with a name; None if there is none."""
        return next((one for one in self.parts if one.name == name), None)

    def texts(self, name: str) -> list[str]:
        """Return the texts of the child elements with a name."""
        return [one.text.strip() for one in self.parts if one.name == name]


@dataclass
class Document:
    """Report: its version, and its blocks in the structure of XML: ``obsBlock`` with ``obsContext`` and ``obsData``.

    The order of elements matters if the report is ``ordered``, as XML is.
    """

    version: Element
    blocks: list[Element]
    ordered: bool = False


def read_document(path: Path) -> Document:
    """Return a report read from a file.

    Raises
    ------
    Misconfigured
        There is no such file.
    BadInput
        The file cannot be read, or is neither XML nor PSV; the message has ``line N``.
    """
    require_there(path, "another report.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("unreadable_report", str(path), f"cannot be read as text (UTF-8): {error}.", _REMEDY) from error
    return read_text(str(path), text)


def read_text(where: str, text: str) -> Document:
    """Return a report read from its text, called ``where`` in messages; raise as `read_document` does."""
    return _from_xml(where, text) if is_xml(text) else _from_psv(where, text)


def is_xml(text: str) -> bool:
    """Return whether a text starts as XML, unlike PSV."""
    return text.lstrip().startswith("<")


_REMEDY = "give a report in ADES, as XML or PSV."


def _from_xml(where: str, text: str) -> Document:
    """Return a report read from XML; entity definitions, which can expand without limit, are refused."""
    parser = expat.ParserCreate()
    root = Element("", 0)
    stack = [root]

    def begin(name: str, attributes: dict[str, str]) -> None:
        one = Element(name, parser.CurrentLineNumber, attributes.get("version", "") if len(stack) == 1 else "")
        stack[-1].parts.append(one)
        stack.append(one)

    def characters(text: str) -> None:
        if len(stack) > 2:
            stack[-1].text += text

    def refuse(*_: object) -> None:
        raise ValueError(f"line {parser.CurrentLineNumber}: declares an entity")

    parser.StartElementHandler, parser.CharacterDataHandler = begin, characters
    parser.EndElementHandler = lambda _: stack.pop()
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text.lstrip(), True)
    except (expat.ExpatError, ValueError) as error:
        raise BadInput("unreadable_report", where, f"is not XML that can be read: {error}.", _REMEDY) from error
    (top,) = root.parts
    if top.name != "ades":
        problem = f"line {top.line}: the outermost element is {top.name!r}, not 'ades'."
        raise BadInput("no_ades", where, problem, _REMEDY)
    return Document(Element("version", top.line, top.text), top.parts, ordered=True)


def _from_psv(where: str, text: str) -> Document:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines or not lines[0][1].startswith("# version"):
        number = lines[0][0] if lines else 1
        raise BadInput("no_ades", where, f"line {number}: does not begin with '# version=2022'.", _REMEDY)
    number, first = lines[0]
    document = Document(Element("version", number, first.partition("=")[2].strip()), [])
    header, data, columns = None, None, list[str]()
    for number, line in lines[1:]:
        if line[0] in "#!":
            if header is None or data is not None:
                header, data = Element("obsContext", number), None
                document.blocks.append(Element("obsBlock", number, parts=[header]))
            _header_line(header, number, line)
            continue
        if header is None:
            raise BadInput("no_ades", where, f"line {number}: comes before the header.", _REMEDY)
        cells = [cell.strip() for cell in line.split("|")]
        if cells[0] == "permID":
            columns = cells
            if data is None:
                data = Element("obsData", number)
                document.blocks[-1].parts.append(data)
        elif data is None:
            raise BadInput("no_ades", where, f"line {number}: the first column must be permID.", _REMEDY)
        else:
            data.parts.append(_row(number, columns, cells))
    return document


def _header_line(header: Element, number: int, line: str) -> None:
    name, _, text = line[1:].strip().partition(" ")
    if line[0] == "#":
        header.parts.append(Element(name, number, text.strip()))
    elif header.parts:
        header.parts[-1].parts.append(Element(name, number, text.strip()))
    else:
        header.parts.append(Element(name, number, text.strip()))  # the rules report that there is no such element


def _row(number: int, columns: list[str], cells: list[str]) -> Element:
    """Return an observation, whose kind follows from its columns; an extra column has no name."""
    given = [Element(name, number, cell) for name, cell in _paired(columns, cells) if cell]
    names = {one.name for one in given}
    kind = "optical"
    if names & {"trx", "rcv", "delay", "doppler"}:
        kind = "radar"
    elif "raStar" in names:
        kind = "occultation"
    elif "obsCenter" in names:
        kind = "offset"
    return Element(kind, number, parts=given)


def _paired(columns: list[str], cells: list[str]) -> Iterator[tuple[str, str]]:
    for place, cell in enumerate(cells):
        yield (columns[place] if place < len(columns) else f"column {place + 1}"), cell
