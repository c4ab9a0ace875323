"""The site: ``make docs`` builds it from the pages as they stand, and nothing on it comes from the network.

The source folder is the repository's root, so that links between pages, and to files beside them, hold as written.
"""

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

project = "nightstride"
author = project_copyright = "the nightstride developers"
version = release = installed("nightstride")
root_doc = "docs/index"
include_patterns = ["docs/**.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = ["docs/site/**", *(one.name for one in ROOT.iterdir() if one.is_dir() and one.name != "docs")]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["tasklist"]
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "mailto": None}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = False
highlight_language = "none"
smartquotes = False  # they would make one dash of the two of an option

html_theme = "furo"
html_title = f"nightstride {version}"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_extra_path = ["index.html"]
html_show_search_summary = False  # summaries are fetched, which browsers refuse to pages opened from a folder
html_copy_source = False
html_use_opensearch = ""

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)\.md[^)]*\)")
FURTHER = {"Project": "[](/README.md) [](/CHANGELOG.md) [](/CONTRIBUTING.md) [](/SECURITY.md)"}
NAMED = {
    '<p class="caption" role="heading"': '<p class="caption" role="heading" aria-level="2"',
    "<pre>": '<pre tabindex="0">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
    'task-list-item-checkbox" checked': 'task-list-item-checkbox" aria-label="done" checked',
    'task-list-item-checkbox" disabled': 'task-list-item-checkbox" aria-label="open" disabled',
}
"""What reading by ear and by keyboard lacks in what is written for pages: a level, a place to scroll from, a name."""
ARRAY = stringify_annotation(ArrayLike, "smart")


def contents(index: str) -> str:
    """Return the table of contents that the index implies: its rooms in bold, and the pages that each links to.

    A page that several name is in the last of them.
    """
    parts = re.split(r"^\*\*(\w+)\*\*", index, flags=re.MULTILINE)[1:]
    room_of: dict[str, str] = {}
    for room, text in [*zip(parts[::2], parts[1::2], strict=True), *FURTHER.items()]:
        for target in LINK.findall(text):
            room_of.pop(target, None)
            room_of[target] = room
    rooms = {room: [name for name, one in room_of.items() if one == room] for room in dict.fromkeys(room_of.values())}
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {room}\n\n" + "\n".join(names) + "\n```\n"
        for room, names in rooms.items()
    )


def add_contents(app: Sphinx, name: str, text: list[str]) -> None:
    """Add the table of contents to the index when it is read."""
    if name == root_doc:
        text[0] += contents(text[0])


def name_parts(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Complete a page by `NAMED`."""
    for part in ("body", "furo_navigation_tree"):
        for written, completed in NAMED.items():
            context[part] = context.get(part, "").replace(written, completed)


def shorten(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str, returned: str
) -> tuple[str, str]:
    """Write a union that numpy calls ArrayLike by that name."""
    return (signature or "").replace(ARRAY, "ArrayLike"), returned


def setup(app: Sphinx) -> dict[str, bool]:
    """Let Sphinx read the index with its contents."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-signature", shorten)
    app.connect("html-page-context", name_parts, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
