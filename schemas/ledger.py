"""Records of finished work: ledger, known sources, quarantine."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from schemas.exposure import ExposureKey
from schemas.model_card import ModelCard
from schemas.patch import PatchKey
from schemas.summary import CauseCount, ExposureCounts, Record, Trouble

LEDGER_VERSION = 1
"""Version of the records below. A reader refuses any other."""

PREVIOUS = 8
"""Maximum number of replaced results of an exposure that are recorded."""


class SourceStat(Record):
    """State of a source in its file system; an unchanged source is not read again."""

    size: Annotated[int, Field(ge=0, description="bytes")]
    mtime_ns: Annotated[int, Field(description="Time of the last change, ns since 1970.")]
    each: Annotated[str, Field(description="SHA-256 of size and last change of each file, in order.")] = ""


def file_of_source(source_uri: str) -> str:
    """Return the file of a ``source_uri``; for an image of a stack, drop the index at the end, such as ``[3]``."""
    return source_uri.rpartition("[")[0] if source_uri.endswith("]") else source_uri


class SourceMemo(SourceStat):
    """Content of a source when it was last read."""

    uri: str
    sha256: Annotated[str, Field(description="SHA-256 of all files of the exposure, in order.")]
    key: ExposureKey


def _within(path: str) -> str:
    """Return a path within the output folder; refuse others, since files named in records may be removed."""
    parts = path.split("/")
    if not all(parts) or "." in parts or ".." in parts or "\0" in path:
        raise ValueError("does not lie in the output folder")
    return path


class DatasetRecord(Record):
    """Published file."""

    path: Annotated[
        str, AfterValidator(_within), Field(description="Relative to the output folder, with forward slashes.")
    ]
    digest: Annotated[str, Field(description="Digest of its inputs; in the file's own metadata as well.")]
    rows: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(description="SHA-256 of the file.")]


class SourceFile(Record):
    """One of several files of an exposure."""

    uri: str
    sha256: Annotated[str | None, Field(description="Of its bytes; null where its tiles were kept from before.")] = None


class Previous(Record):
    """Replaced results of an exposure. Their files are deleted; the same models and settings reproduce them."""

    digest: Annotated[str, Field(description="Digest of the final dataset.")]
    provenance: Annotated[str | None, Field(description="Digest of the `ProvenanceRecord`.")]
    files: Annotated[dict[str, str], Field(description="Dataset -> SHA-256 of the file's bytes.")]
    detections: Annotated[int, Field(ge=0)]
    finished_at: Annotated[str, Field(description="UTC, ISO 8601.")]


class ExposureRecord(ExposureKey):
    """Outcome of one exposure. It may hold times of the run, which catalogues never do."""

    schema_version: int = LEDGER_VERSION
    source_uri: str
    source_sha256: str
    source_stat: SourceStat | None = None
    flags: Annotated[
        tuple[str, ...], Field(description="Of the exposure, as in its tiles: assumed_psf, no_wcs, ...")
    ] = ()
    source_files: Annotated[
        dict[str, SourceFile],
        Field(description="Plane -> file, of an exposure of several; the difference image first, then by plane."),
    ] = Field(default_factory=dict)
    digest: Annotated[str, Field(description="Digest of the final dataset, chained over all before it.")]
    datasets: dict[str, DatasetRecord] = Field(default_factory=dict)
    windows: Annotated[int, Field(ge=0, description="Windows searched.")] = 0
    windows_unscored: Annotated[int, Field(ge=0, description="Windows too masked or too flat to be scored.")] = 0
    detections: Annotated[int, Field(ge=0)] = 0
    causes: dict[str, CauseCount] = Field(
        default_factory=dict, description="Known cause of false streaks -> candidates that had it."
    )
    seconds: dict[str, float] = Field(default_factory=dict, description="Time spent by stage, s.")
    status: Literal["done", "quarantined", "failed"] = "done"
    reason: Annotated[
        str | None,
        Field(description="Why it is quarantined or failed; of one that is done: why it was not done again."),
    ] = None
    sky: Annotated[
        tuple[int, ...], Field(description="Pixels of `schemas.patch.COVER_ORDER` that it covers, with some around it.")
    ] = ()
    shutter_closed_at: Annotated[str | None, Field(description="End of the exposure, UTC, ISO 8601.")] = None
    provenance: Annotated[str | None, Field(description="Digest of the `ProvenanceRecord` of the last run of it.")] = (
        None
    )
    previous: Annotated[tuple[Previous, ...], Field(description="Results that these replaced, the latest first.")] = ()
    software: Annotated[str, Field(description="Version of nightstride.")]
    finished_at: Annotated[str, Field(description="UTC, ISO 8601.")]

    @property
    def key(self) -> ExposureKey:
        """Return the key of the exposure."""
        return ExposureKey(night=self.night, visit=self.visit, detector=self.detector)


class PatchRecord(PatchKey):
    """Published datasets of a patch of the sky in a night."""

    schema_version: int = LEDGER_VERSION
    datasets: dict[str, DatasetRecord] = Field(default_factory=dict)
    idle: dict[str, tuple[str, str]] = Field(default_factory=dict, description="As in `NightRecord`.")
    seconds: dict[str, float] = Field(default_factory=dict, description="Time spent by stage, s.")
    software: Annotated[str, Field(description="Version of nightstride.")]
    finished_at: Annotated[str, Field(description="UTC, ISO 8601.")]

    @property
    def key(self) -> PatchKey:
        """Return the key of the patch."""
        return PatchKey(night=self.night, order=self.order, pixel=self.pixel)


class NightRecord(Record):
    """Published datasets of a night as a whole."""

    schema_version: int = LEDGER_VERSION
    night: Annotated[str, Field(pattern=r"^\d{8}$", description="YYYYMMDD of the local evening.")]
    datasets: dict[str, DatasetRecord] = Field(default_factory=dict)
    idle: dict[str, tuple[str, str]] = Field(
        default_factory=dict, description="Dataset -> digest of what it would be made from, and why it is not made."
    )
    exposures: Annotated[int, Field(ge=0, description="Published exposures that it was made from.")]
    made_from: Annotated[
        str, Field(description="Digest of which those were, and when they were finished; empty: before records told.")
    ] = ""
    rows: dict[str, int] = Field(default_factory=dict, description="Dataset of its patches -> rows of all of them.")
    patches: Annotated[str, Field(description="Digest of what its patches are made from; empty if it has none.")] = ""
    failed: Annotated[
        tuple[Trouble, ...], Field(description="Why something of it or of its patches is lacking, or out of date.")
    ] = ()
    drawn: Annotated[
        bool | None, Field(description="Whether its page was drawn since it was made; null: before records told.")
    ] = None
    forced: Annotated[
        str,
        Field(description="Digest of the exposures and objects of which the forced photometry is made; empty: none."),
    ] = ""
    seconds: dict[str, float] = Field(default_factory=dict, description="Time spent by stage, s.")
    provenance: Annotated[
        str | None, Field(description="Digest of the `ProvenanceRecord` of the last run that made something of it.")
    ] = None
    software: Annotated[str, Field(description="Version of nightstride.")]
    finished_at: Annotated[str, Field(description="UTC, ISO 8601.")]


class ProvenanceRecord(Record):
    """Provenance of exposures and nights: models, settings and code; stored once for all that share it."""

    settings: dict[str, Any]
    models: Annotated[dict[str, ModelCard], Field(description="Model, as stages call it -> its card.")]
    stages: Annotated[dict[str, str], Field(description="Stage -> version.")]
    files: Annotated[
        dict[str, str], Field(default_factory=dict, description="Dataset of a file that the settings name -> SHA-256.")
    ]
    software: Annotated[str, Field(description="Version of nightstride.")]
    code: Annotated[str, Field(description="SHA-256 over code, cards and weights of schemas, kernels, stages, flows.")]


class Percentiles(Record):
    """Percentiles of durations, s."""

    n: Annotated[int, Field(ge=1)]
    p50: float
    p99: float


class NightSums(Record):
    """Sums over the exposures of a night, valid while its records are unchanged."""

    stamp: Annotated[str, Field(description="Stamp of the records that were summed.")]
    states: Annotated[dict[str, int], Field(description="State (done, outdated, quarantined, failed) -> exposures.")]
    detections: Annotated[int, Field(ge=0)]
    lag_s: Annotated[Percentiles | None, Field(description="Time from the end of an exposure to its catalogue.")]
    searched: Annotated[dict[str, int], Field(description="Digest of the `ProvenanceRecord`, or none -> exposures.")]
    referred: Annotated[
        tuple[str, ...] | None, Field(description="Each `ProvenanceRecord` that a record refers to; null: not known.")
    ] = None
    published: Annotated[
        str, Field(description="As `made_from` of `NightRecord`, of the exposures now; empty: before sums told.")
    ] = ""


class WatchRecord(Record):
    """State of a stream; replaced every few seconds."""

    state: Annotated[
        Literal["running", "draining", "ended", "killed"],
        Field(description="Killed: by `nightstride status` alone, of a stream that ended without recording it."),
    ]
    source: str
    host: str
    pid: int
    since: Annotated[str, Field(description="UTC, ISO 8601.")]
    updated_at: Annotated[str, Field(description="UTC, ISO 8601.")]
    on_the_way: Annotated[int, Field(ge=0, description="Exposures taken and not finished.")]
    waiting: Annotated[int, Field(ge=0, description="Files known to wait where they arrived.")]
    exposures: ExposureCounts
    lag_s: Annotated[Percentiles | None, Field(description="Time from the end of an exposure to its catalogue.")] = None
    turnaround_s: Annotated[
        Percentiles | None, Field(description="Time from the first arrival of a visit to a catalogue.")
    ] = None


class QuarantineRecord(Record):
    """Input that cannot be used, with the reason and the remedy."""

    code: str
    where: str
    problem: str
    remedy: str
    source_uri: str
    key: Annotated[ExposureKey | None, Field(description="Null where the input does not tell.")] = None
    when: Annotated[str, Field(description="UTC, ISO 8601.")]
