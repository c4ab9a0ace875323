"""Figures of measurements: each section says when and how it was measured, and with which weights.

A line ``weights: detect/streak_net sha256:…`` names the shipped weights that the figures depend on. Figures of weights
that are no longer shipped stand under ``earlier weights:`` until they are measured again.
"""

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/measured").glob("*.md"))
SHIPPED = {
    f"{path.parent.name}/{path.stem}": hashlib.sha256(path.read_bytes()).hexdigest()
    for path in (ROOT / "stages/weights").rglob("*.safetensors")
}
NAMED = re.compile(r"([\w/]+) sha256:([0-9a-f]{12})\b")


def digests(text, label):
    """Names and digests on the lines of a page that begin with a label."""
    lines = re.findall(rf"^{label}: (.*)$", text, re.MULTILINE)
    return [found for line in lines for found in NAMED.findall(line)]


def outdated(text, shipped):
    """Weights that a text names as shipped and that are not, or as earlier and that are shipped."""
    current, earlier = digests(text, "weights"), digests(text, "earlier weights")
    wrong = [name for name, digest in current if not shipped.get(name, "").startswith(digest)]
    return wrong + [name for name, digest in earlier if shipped.get(name, "").startswith(digest)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_weights_are_those_that_are_shipped(path):
    assert outdated(path.read_text(), SHIPPED) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_digest_stands_on_a_line_that_is_checked(path):
    text = path.read_text()
    checked = len(digests(text, "weights")) + len(digests(text, "earlier weights"))
    assert checked == text.count("sha256:")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_section_with_a_table_has_command_and_date(path):
    for section in re.split(r"^## ", path.read_text(), flags=re.MULTILINE)[1:]:
        if re.search(r"^\|", section, re.MULTILINE):
            title = section.splitlines()[0]
            assert re.search(r"\b20\d\d-\d\d-\d\d\b", section), title
            assert re.search(r"(python -m|nightstride|make|pytest)\b", section), title


def test_other_weights_are_noticed():
    shipped = {"detect/net": "ab" * 32}
    assert outdated("weights: detect/net sha256:abababababab\n", shipped) == []
    assert outdated("weights: detect/net sha256:cdcdcdcdcdcd\n", shipped) == ["detect/net"]
    assert outdated("weights: detect/gone sha256:abababababab\n", shipped) == ["detect/gone"]
    assert outdated("earlier weights: detect/net sha256:cdcdcdcdcdcd\n", shipped) == []
    assert outdated("earlier weights: detect/net sha256:abababababab\n", shipped) == ["detect/net"]


def test_the_shipped_detector_is_named():
    named = {name for path in PAGES for name, _ in digests(path.read_text(), "weights")}
    assert {"detect/streak_net", "reliability/streak_net", "star_galaxy/multi_band", "superclass/colours"} <= named


def test_figures_of_the_readme_are_the_measured_ones():
    measured = (ROOT / "docs/measured/detection.md").read_text().splitlines()
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ")]
    headline = [row for row in rows if row.startswith(("| completeness", "| S/N at 50 %", "| false streaks"))]
    assert len(headline) == 4
    assert [row for row in headline if row not in measured] == []
