"""What docs/reference promises to readers of the catalogues and writers of settings."""

import json
import re
from pathlib import Path

from pydantic import BaseModel

BANDS = "ugrizy"
FOLDER = Path(__file__).parents[2] / "docs/reference"


def section(page, heading):
    """Lines of a page below a heading."""
    text = (FOLDER / page).read_text().split(f"\n## {heading}\n")[1]
    return text.split("\n## ")[0].splitlines()


def cells(page, heading):
    """First three cells of the rows of a table, without the code marks."""
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in section(page, heading) if line.startswith("| `")]
    return [(row[0].strip("`"), row[1], row[2] if len(row) > 2 else "") for row in rows]


def columns(dataset):
    """Name -> type of the columns of a dataset, and whether they may be null; BAND stands for each band."""
    told = {name: kind for name, kind, _ in cells("columns.md", dataset.name)}
    return {name.replace("BAND", band): kind for name, kind in told.items() for band in BANDS}


def typed(dataset):
    """The same, as the code has them."""
    return {field.name: f"{field.type}{', nullable' if field.nullable else ''}" for field in dataset.schema}


def bits(what):
    """Name -> bit."""
    lines = section("columns.md", "Flags")
    words = lines[lines.index(f"Bits of {what}:") + 2].rstrip(".").split(", ")
    return {name: int(bit) for bit, name in (word.split() for word in words)}


def defaults(heading):
    """Key -> default of a section of the settings."""
    found = ((name, default.strip("`")) for name, _, default in cells("settings.md", heading))
    return {name: json.loads(default) for name, default in found}


def given(model):
    """The same, as the code has them; of a section within it only what differs from its own defaults."""
    made = model()
    parts = {name: part for name in type(made).model_fields if isinstance(part := getattr(made, name), BaseModel)}
    differing = {name: part.model_dump(mode="json", exclude_defaults=True) for name, part in parts.items()}
    return made.model_dump(mode="json") | differing
