"""What docs/reference promises to readers of the catalogues and writers of settings."""

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from schemas.class_table import SPECTRAL_CLASS, STAR_GALAXY
from schemas.cluster_settings import SlurmSettings
from schemas.dia_source import DIA_SOURCE, HIT, STREAK, DetectionFlag
from schemas.forced import FORCED_SOURCE, ForcedFlag
from schemas.injection import INJECTION
from schemas.keyword_mapping import BandFromHeader, FwhmFromHeader, TimeFromHeader
from schemas.objects import DIA_LINK, OBJECT, SOURCE, SourceFlag
from schemas.pixels import MaskPlane
from schemas.settings import Settings
from schemas.tracklets import TRACKLET, TRACKLET_SOURCE
from schemas.truth import TRUTH, TRUTH_OBJECT
from tests.schemas.test_settings import sections

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


@pytest.mark.parametrize(
    "dataset",
    [
        DIA_SOURCE, STREAK, HIT, SOURCE, OBJECT, DIA_LINK, TRACKLET_SOURCE, TRACKLET, STAR_GALAXY, SPECTRAL_CLASS,
        INJECTION, FORCED_SOURCE, TRUTH, TRUTH_OBJECT,
    ],
    ids=lambda one: one.name,
)  # fmt: skip
def test_columns_are_those_that_readers_are_told(dataset):
    assert typed(dataset) == columns(dataset)


@pytest.mark.parametrize(
    ("flags", "what", "dataset"),
    [
        (DetectionFlag, "`dia_source.flags`, `ztf_packet_source.flags`", DIA_SOURCE),
        (SourceFlag, "`source.flags`, `object.flags`", SOURCE),
        (ForcedFlag, "`forced_source.flags`", FORCED_SOURCE), (MaskPlane, "the plane `mask` of the tiles", None),
    ],
)  # fmt: skip
def test_flags_are_distinct_bits_and_those_that_readers_are_told(flags, what, dataset):
    assert {flag.name: flag.value for flag in flags} == bits(what)
    values = [flag.value for flag in flags]
    assert sorted(values) == [1 << n for n in range(len(values))]
    if dataset is not None:
        doc = dataset.schema.field("flags").metadata[b"doc"].decode()
        assert all(f"{flag.value} {flag.name}" in doc for flag in flags)


@pytest.mark.parametrize("flags", [DetectionFlag, MaskPlane])
def test_help_gives_the_meaning_of_every_bit(flags):
    assert all(f"- {one.name} ({one.value}): " in flags.__doc__ for one in flags)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        *sections(Settings), ("cluster.slurm", SlurmSettings), ("fits.band", BandFromHeader),
        ("fits.time", TimeFromHeader), ("fits.psf_fwhm", FwhmFromHeader),
    ],
)  # fmt: skip
def test_defaults_are_those_that_users_are_told(name, model):
    assert given(model) == defaults(f"`[{name}]`")
