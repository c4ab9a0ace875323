"""Data releases: named, verifiable copies of nights with everything they depend on.

A release is a separate folder with copies of the catalogues and the ledger of some nights, the cards and weights of
the models used, and the settings; it opens like an output folder. ``SHA256SUMS`` lists every file, also for
``sha256sum --check``; its own SHA-256 identifies the release.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import fsspec

from flows.pipeline.models import model_name, models_in
from flows.pipeline.provenance import recorded_settings
from flows.pipeline.weights import location_of
from flows.results.backup import copy_database, recorded_files
from flows.results.verify import Problem, Verification, verify_output
from flows.storage.atomic import new_folder
from flows.storage.bucket_path import BucketPath, files_below
from flows.storage.compaction import compact
from flows.storage.digest import file_digest
from flows.storage.layout import RELEASE, is_release, ledger_folder, require_output
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from flows.storage.release_note import ReleaseNote
from schemas.dataset import TableOf
from schemas.errors import Misconfigured, NightstrideError
from schemas.ledger import ExposureRecord, NightRecord, PatchRecord, ProvenanceRecord
from schemas.model_card import ModelCard
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.settings import Settings
from stages import PIPELINE

SUMS = "SHA256SUMS"
"""File with digest and name of every other file, in the format of sha256sum."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_READ_ONLY = 0o444
_JOINED_FROM = 16


class Frozen(NamedTuple):
    """New release: its description, its files, and the SHA-256 that identifies it."""

    note: ReleaseNote
    files: int
    bytes: int
    sha256: str


def freeze_release(
    out: Path, to: Path, name: str, tables: Mapping[str, TableOf], nights: NightRange = EVERY_NIGHT
) -> Frozen:
    """Copy nights of an output folder to a release, whose folder appears only when it is complete and verified.

    No run may be active meanwhile. Tiles are left out.

    Parameters
    ----------
    out
        Output folder, on this machine or in a bucket.
    to
        New folder of the release, on this machine.
    name
        Letters, digits, ``.``, ``_`` and ``-``: DR1.
    tables
        As in `flows.results.verify.verify_output`.
    nights
        Range of nights.

    Raises
    ------
    Misconfigured
        The name has other characters; ``to`` exists or lies in ``out``, or its parent does not exist; there is no such
        night; a run is active (``locked``); published files are missing or damaged (``not_whole``).
    Retryable
        The disk is full.
    """
    require_output(out)
    _require_place(out, to, name)
    with lease(out.resolve()):
        labels = _nights(out, nights)
        with new_folder(to) as staged:
            _copy_catalogues(out, staged, labels)
            provenances = _copy_ledger(out, staged, labels)
            for night in labels:  # in a few files, which open quickly
                compact(staged, night, _JOINED_FROM, lambda fill, one, other: fill(one, other))
            models, missing = _copy_models(staged, provenances)
            found = verify_output(staged, tables)
            if found.problems:
                remedy = "see `nightstride verify OUT`, and run the night again."
                raise Misconfigured("not_whole", str(out), f"cannot be released: {found.problems[0]}", remedy)
            note = _note(staged, name, labels, models, missing)
            (staged / RELEASE).write_text(note.model_dump_json(indent=1) + "\n")
            return _sealed(staged, note)


def _require_place(out: Path, to: Path, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Misconfigured("bad_name", "--name", f"is {name!r}.", "use letters, digits, '.', '_' and '-', as in DR1.")
    if isinstance(to, BucketPath):
        raise Misconfigured("local_folder", str(to), "is in an object store.", "name a folder here, and copy it there.")
    if to.exists():
        raise Misconfigured(
            "folder_exists", str(to), "is there already; a release never changes.", "name another --to."
        )
    if not isinstance(out, BucketPath) and to.resolve().is_relative_to(out.resolve()):
        raise Misconfigured("in_output", f"--to {to}", f"is inside {out}, which changes.", "name another --to.")
    if not to.absolute().parent.is_dir():
        raise Misconfigured(
            "no_folder",
            str(to),
            f"there is no folder {to.absolute().parent}.",
            "make that folder first, or name another.",
        )


def _nights(out: Path, nights: NightRange) -> list[str]:
    known = Ledger(out).nights()
    if not known:
        raise Misconfigured("no_night", str(out), "holds no night.", "make one with `nightstride run`.")
    return list(nights.among(known, str(out)))


def _copy_catalogues(out: Path, staged: Path, nights: list[str]) -> None:
    for path in recorded_files(out, nights):
        target = staged / path.relative_to(out).as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if isinstance(path, BucketPath):
                target.write_bytes(path.read_bytes())
            else:
                shutil.copyfile(path, target)
        except FileNotFoundError as error:
            problem = f"is in the ledger, and not there: {out} cannot be released."
            raise Misconfigured("not_whole", str(path), problem, "run the night again: it is made again.") from error


def _copy_ledger(out: Path, staged: Path, nights: list[str]) -> dict[str, ProvenanceRecord]:
    """Copy the records of some nights; return the provenance of their exposures, by its digest."""
    source, target = Ledger(out), Ledger(staged)
    used = set[str]()
    for night in nights:
        if isinstance(out, BucketPath):
            for record in source.records(night):
                target.put(record)
            for patch in source.patches(night):
                if isinstance(patch, NightstrideError):
                    raise patch
                target.put_patch(patch)
        else:
            copy_database(ledger_folder(out) / f"{night}.sqlite", ledger_folder(staged) / f"{night}.sqlite")
        for record in source.records(night):
            used |= {record.provenance or ""}
        if (whole := source.night(night)) is not None:
            target.put_night(whole)
            used |= {whole.provenance or ""}
        if (quality := source.quality(night)) is not None:
            target.put_quality(quality)
    found = {one: made for one in sorted(used) if (made := source.provenance(one)) is not None}
    for made in found.values():
        target.put_provenance(made)
    return found


def _copy_models(staged: Path, provenances: Mapping[str, ProvenanceRecord]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write the settings, model cards and weights; return the SHA-256 by folder, and the folders without weights."""
    models, missing = dict[str, str](), set[str]()
    (staged / "settings").mkdir()
    for digest, made in provenances.items():
        (staged / "settings" / f"{digest}.json").write_text(made.model_dump_json(indent=1) + "\n")
        settings = recorded_settings(made)
        for model, card in made.models.items():
            folder = f"{model}/{card.name}-{card.sha256[:12]}"
            if folder in models:
                continue
            models[folder] = card.sha256
            place = staged / "models" / folder
            place.mkdir(parents=True)
            (place / f"{model}.json").write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n")
            weights = _weights(model, card, settings)
            if weights is None:
                missing.add(folder)
            else:
                (place / f"{model}.safetensors").write_bytes(weights)
    return models, tuple(sorted(missing))


def _weights(model: str, card: ModelCard, settings: Settings) -> bytes | None:
    """Return the weights described by a card; None if the current ones differ."""
    beside = {one.companion: one.name for one in models_in(PIPELINE).values() if one.companion}
    try:
        location = location_of(model, model_name(beside.get(model, model), settings))
        with fsspec.open(f"{location}.safetensors", "rb") as file:
            content: bytes = file.read()
    except (OSError, NightstrideError):
        return None
    return content if sha256(content).hexdigest() == card.sha256 else None


def _note(staged: Path, name: str, nights: list[str], models: dict[str, str], missing: tuple[str, ...]) -> ReleaseNote:
    ledger, rows, digest, exposures = Ledger(staged), Counter[str](), sha256(), 0
    for night in nights:
        for record in ledger.records(night):
            exposures += 1
            digest.update(record.model_dump_json().encode() + b"\n")
            rows.update(_rows(record))
        others: list[NightRecord | PatchRecord | NightstrideError] = [*ledger.whole_nights((night,))]
        for other in (*others, *ledger.patches(night)):
            if isinstance(other, NightstrideError):
                raise other
            rows.update(_rows(other))
    return ReleaseNote(
        name=name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        software=version("nightstride"),
        nights=tuple(nights),
        exposures=exposures,
        rows=dict(sorted(rows.items())),
        ledger=digest.hexdigest(),
        models=models,
        weights_missing=missing,
    )


def _rows(record: ExposureRecord | NightRecord | PatchRecord) -> dict[str, int]:
    return {name: entry.rows for name, entry in record.datasets.items()}


def _sealed(staged: Path, note: ReleaseNote) -> Frozen:
    """Write the list of digests of all files, and make the files read-only."""
    files = files_below(staged)
    listed = "".join(f"{file_digest(path)}  {path.relative_to(staged).as_posix()}\n" for path in files)
    (staged / SUMS).write_text(listed)
    for path in (*files, staged / SUMS):
        path.chmod(_READ_ONLY)
    size = sum(path.stat().st_size for path in files)
    return Frozen(note, len(files), size, sha256(listed.encode()).hexdigest())


def _read_sums(path: Path) -> dict[str, str]:
    lines = (line.partition("  ") for line in path.read_text().splitlines())
    return {name: digest for digest, _, name in lines}


def with_manifest(out: Path, found: Verification) -> Verification:
    """Add differences from the manifest to a verification, if the folder is a release."""
    if not is_release(out) and not (out / SUMS).is_file():
        return found
    differences = tuple(_differences(out))
    told = {one.where for one in differences}  # once, with what helps of a release
    return replace(found, problems=(*differences, *(one for one in found.problems if one.where not in told)))


def _differences(out: Path) -> Iterator[Problem]:
    remedy = "copy the release again from where it was published."
    try:
        listed = _read_sums(out / SUMS)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        yield Problem("damaged_release", str(out / SUMS), f"cannot be read: {said}.", remedy)
        return
    there = {path.relative_to(out).as_posix(): path for path in files_below(out)}
    for name, digest in sorted(listed.items()):
        if name not in there:
            yield Problem("missing_file", str(out / name), f"is in {SUMS}, and not there.", remedy)
        elif (now := file_digest(there[name])) != digest:
            yield Problem(
                "altered", str(out / name), f"has SHA-256 {now[:16]}..., {SUMS} says {digest[:16]}....", remedy
            )
    for name in sorted(there.keys() - listed.keys() - {SUMS}):
        yield Problem(
            "unknown_file", str(out / name), f"is not in {SUMS}.", "remove it: it is not part of the release."
        )
