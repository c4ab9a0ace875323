"""Reading of reports in ADES, PSV or XML, with the number of the line of everything in them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from flows.runtime.settings import require_there
from schemas.errors import BadInput

KINDS = ("optical", "offset", "occultation", "radar")
_GROUPS = (
    "observatory",
    "submitter",
    "observers",
    "measurers",
    "telescope",
    "software",
    "coinvestigators",
    "collaborators",
)
"""Elements of the header that have elements of their own; `comment` does, too, and `fundingSource` a text."""


@dataclass
class Element:
    """Element: name, text and elements in it, and the number of its line."""

    name: str
    line: int
    text: str = ""
    parts: list["Element"] = field(default_factory=list)

    def find(self, name: str) -> "Element | None":
        """Return the first element of a name in it; None if there is none."""
        return next((one for one in self.parts if one.name == name), None)

    def texts(self, name: str) -> list[str]:
        """Return the texts of the elements of a name in it."""
        return [one.text.strip() for one in self.parts if one.name == name]


@dataclass
class Document:
    """Report: its version, and its blocks as XML has them: ``obsBlock`` of ``obsContext`` and ``obsData``.

    The order of elements counts where it is ``ordered``, as XML is.
    """

    version: Element
    blocks: list[Element]
    ordered: bool = False


def read_document(path: Path) -> Document:
    """Read a report.

    Raises
    ------
    Misconfigured
        There is no such file.
    BadInput
        It cannot be read, or is neither XML nor PSV; ``line N`` is in the message.
    """
    require_there(path, "another report.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("unreadable_report", str(path), f"cannot be read as text (UTF-8): {error}.", _REMEDY) from error
    return read_text(str(path), text)


def read_text(where: str, text: str) -> Document:
    """Read a report from its text, ``where`` in messages; errors as in `read_document`."""
    return _xml(where, text) if is_xml(text) else _psv(where, text)


def is_xml(text: str) -> bool:
    """Return whether a text is meant as XML: PSV begins otherwise."""
    return text.lstrip().startswith("<")


_REMEDY = "give a report in ADES, as XML or PSV."


def _xml(where: str, text: str) -> Document:
    """Read XML; entities of its own, which can grow without end, are refused."""
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
        raise BadInput("unreadable_report", where, f"is no XML that can be read: {error}.", _REMEDY) from error
    (top,) = root.parts
    if top.name != "ades":
        problem = f"line {top.line}: the outermost element is {top.name!r}, not 'ades'."
        raise BadInput("no_ades", where, problem, _REMEDY)
    return Document(Element("version", top.line, top.text), top.parts, ordered=True)


def _psv(where: str, text: str) -> Document:
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
        if data is None or cells[0] == "permID":
            columns = cells
            data = data or Element("obsData", number)
            if data not in document.blocks[-1].parts:
                document.blocks[-1].parts.append(data)
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
        header.parts.append(Element(name, number, text.strip()))  # rules say that there is no such element


def _row(number: int, columns: list[str], cells: list[str]) -> Element:
    """Return an observation; its kind follows from its columns, and a column too many is one without a name."""
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
