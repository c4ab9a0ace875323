"""The site: ``make docs`` builds it from the pages as they stand, and nothing on it comes from the network.

The source folder is the repository's root, so that links between pages, and to files beside them, hold as written.
"""

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

project = "nightstride"
author = project_copyright = "the nightstride developers"
version = release = installed("nightstride")
root_doc = "docs/index"
include_patterns = ["docs/**.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = ["docs/site/**"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "mailto": None}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = False
highlight_language = "none"

html_theme = "furo"
html_title = f"nightstride {version}"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_extra_path = ["index.html"]
html_show_search_summary = False  # summaries are fetched, which browsers refuse to pages opened from a folder
html_copy_source = False
html_use_opensearch = ""

LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+\.md)\)")
FURTHER = {"Project": ["/README", "/CHANGELOG", "/CONTRIBUTING", "/SECURITY"]}


def contents(index: str) -> str:
    """Return the table of contents that the index implies: its rooms in bold, and the pages that each links to."""
    parts = re.split(r"^\*\*(\w+)\*\*", index, flags=re.MULTILINE)[1:]
    rooms = {
        room: [target.removesuffix(".md") for _, target in LINK.findall(text)]
        for room, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return "\n".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {room}\n\n" + "\n".join(names) + "\n```"
        for room, names in {**rooms, **FURTHER}.items()
    )


def add_contents(app: Sphinx, name: str, text: list[str]) -> None:
    """Add the table of contents to the index when it is read."""
    if name == root_doc:
        text[0] += contents(text[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Let Sphinx read the index with its contents."""
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
