"""Records of submitted reports, so that no detection is submitted twice."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flows.storage.atomic import make_folder, write_conditions, write_file
from flows.storage.bucket_path import BucketPath
from flows.storage.file_lock import file_lock
from flows.storage.layout import other_version, refuse_release, staging_folder, submissions_folder
from flows.storage.writing import writing
from schemas.ades import SUBMISSION_VERSION, ReportedDetection, SubmissionRecord
from schemas.errors import BadInput, Retryable

WAIT_S = 30.0
"""Longest wait for another process that submits, s."""

_SAME = 1.0  # arcsec: a detection this close to a submitted one on the same exposure is the same


class Submissions:
    """Records ``OUT/reports/ades/<night>/<number>.json``, one per report, with the reports beside them.

    A record is written in one step and never changed; a report is submitted if, and only if, it has a record. The
    report is written after its record, and again from it if missing. Detections are identified by exposure and
    position, because they may get other ids when a night is searched again. The label of a night may change by a day
    (with the longitude in the settings), so the nights beside it count too.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    @contextmanager
    def lock(self, night: str) -> Iterator[None]:
        """Prevent other submissions within the block; in a bucket, `add` detects them instead.

        Raises
        ------
        Misconfigured
            Another process submits for longer than `WAIT_S` (``lock_held``), or the folder is not writable or a data
            release.
        """
        refuse_release(self._out)
        if isinstance(self._out, BucketPath):
            yield
            return
        folder = submissions_folder(self._out, night).parent
        with writing(folder):
            make_folder(folder)
            with file_lock(folder / ".lock", WAIT_S):
                yield

    def records(self, night: str) -> list[SubmissionRecord]:
        """Return the records of a night and of those beside it, in order.

        Raises
        ------
        BadInput
            A record is damaged, so it is unknown what was submitted (``damaged_submission``).
        Misconfigured
            A record was written by another version (``other_version``).
        """
        folders = (submissions_folder(self._out, one) for one in nights_beside(night))
        return _in_order(path for folder in folders for path in folder.glob("*.json"))

    def all(self, night: str | None = None) -> list[SubmissionRecord]:
        """Return the records of a night, or of all nights, in order; raise as `records` does."""
        folder = submissions_folder(self._out, night or "*")
        return _in_order(self._out.glob(f"{folder.relative_to(self._out).as_posix()}/*.json"))

    def add(self, record: SubmissionRecord, suffix: str) -> Path:
        """Write a record and then its report; return the path of the report.

        Raises
        ------
        Retryable
            Another process has submitted meanwhile (``submitted_meanwhile``), or the disk is full.
        Misconfigured
            The folder is not writable.
        """
        folder = submissions_folder(self._out, record.night)
        path, content = folder / f"{record.number:03d}.json", record.model_dump_json(indent=1).encode()
        try:
            if isinstance(self._out, BucketPath) and isinstance(path, BucketPath):
                write_conditions(self._out).write(path, content, None)
            elif path.exists():
                raise FileExistsError(str(path))
            else:
                write_file(path, content, staging_folder(self._out))
        except FileExistsError as error:
            problem = "was written by somebody else meanwhile; nothing was submitted."
            raise Retryable("submitted_meanwhile", str(path), problem, "run the command again.") from error
        return self.restore(record, suffix)

    def restore(self, record: SubmissionRecord, suffix: str) -> Path:
        """Write a submitted report if it is missing; return its path; raise as `write_file` does."""
        path = submissions_folder(self._out, record.night) / f"{record.number:03d}.{suffix}"
        if not path.exists():
            write_file(path, record.text.encode(), staging_folder(self._out))
        return path


def nights_beside(night: str) -> list[str]:
    """Return the labels of the night before a night, of the night, and of the one after it."""
    day = date(int(night[:4]), int(night[4:6]), int(night[6:]))
    return [(day + timedelta(days=step)).strftime("%Y%m%d") for step in (-1, 0, 1)]


def _in_order(paths: Iterable[Path]) -> list[SubmissionRecord]:
    """Return the records in the files by night and number: names of files do not sort from 1,000 on."""
    return sorted((_read(path) for path in paths), key=lambda record: (record.night, record.number))


def _read(path: Path) -> SubmissionRecord:
    try:
        record = SubmissionRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        problem = f"cannot be read, so that nobody knows what was submitted: {error}."
        raise BadInput("damaged_submission", str(path), problem, "bring it back from a backup.") from error
    if record.schema_version != SUBMISSION_VERSION:
        raise other_version(path, record.schema_version, SUBMISSION_VERSION)
    return record


@dataclass
class Submitted:
    """Submitted detections by exposure; the latest report of each counts."""

    by_exposure: dict[tuple[int, int], list[ReportedDetection]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[SubmissionRecord]) -> "Submitted":
        """Return the detections of records, given in order; those in a correction replace their earlier reports."""
        found = cls()
        for record in records:
            if record.correction:
                rows = [one.model_dump(include={"visit", "detector", "ra", "dec"}) for one in record.detections]
                gone = {id(one) for one in found.match(rows).values()}
                for known in found.by_exposure.values():
                    known[:] = [one for one in known if id(one) not in gone]
            for one in record.detections:
                found.by_exposure.setdefault((one.visit, one.detector), []).append(one)
        return found

    def match(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, ReportedDetection]:
        """Return index in ``rows`` (of `dia_source`) -> its submitted detection, matching the nearest pairs first.

        A trailed detection may lie up to a quarter of its trail length from the submitted one.
        """
        places = {
            key: np.array([(one.ra, one.dec) for one in known]) for key, known in self.by_exposure.items() if known
        }
        pairs = []
        for place, row in enumerate(rows):
            key = row["visit"], row["detector"]
            if key in places:
                apart = _apart(places[key], row["ra"], row["dec"])
                near = np.flatnonzero(apart <= max(_SAME, (row.get("trailLength") or 0.0) / 4))
                pairs += [(float(apart[n]), place, (key, int(n))) for n in near]
        found: dict[int, ReportedDetection] = {}
        taken = set()
        for _, place, one in sorted(pairs):
            if place not in found and one not in taken:
                found[place] = self.by_exposure[one[0]][one[1]]
                taken.add(one)
        return found

    def names(self) -> set[str]:
        """Return the names of tracklets in the reports."""
        return {one.trkSub for known in self.by_exposure.values() for one in known if one.trkSub}


def _apart(places: NDArray[np.float64], ra: float, dec: float) -> NDArray[np.float64]:
    """Return the distances of positions, (n, 2), deg, from one position, arcsec."""
    east = ((places[:, 0] - ra + 180) % 360 - 180) * np.cos(np.radians(dec))
    return np.asarray(np.hypot(east, places[:, 1] - dec)) * 3600
