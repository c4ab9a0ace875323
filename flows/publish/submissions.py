"""Reports that were submitted, so that no detection is submitted twice."""

from collections.abc import Iterator, Mapping, Sequence
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
"""How long to wait for somebody else who submits, s."""

_SAME = 1.0  # arcsec: a detection of an exposure that is nearer to one that was submitted is that one


class Submissions:
    """Files ``OUT/reports/ades/<night>/<number>.json``, each with one report, and the reports themselves beside them.

    A record appears whole, in one step, and is never changed: with it the report is submitted, and without it nothing
    is. The report is written after it; where it is missing it is written again from the record. Detections are
    recognised by exposure and place, as a night that is searched again may give them other ids. The label of a night
    may change by a day (with the longitude that the settings give), so that the nights beside it count as well.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    @contextmanager
    def lock(self, night: str) -> Iterator[None]:
        """Keep others from submitting within the block; in a bucket `add` notices them.

        Raises
        ------
        Misconfigured
            Somebody else submits for longer than `WAIT_S` (``lock_held``), the folder cannot be written, or is that of
            a data release.
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
        """Return what was submitted of a night, and of those beside it, in order.

        Raises
        ------
        BadInput
            A record is damaged: nothing can be submitted, as nobody knows what was.
        Misconfigured
            It was written by another version.
        """
        nights = nights_beside(night)
        paths = [path for one in nights for path in sorted(submissions_folder(self._out, one).glob("*.json"))]
        return [_read(path) for path in paths]

    def all(self, night: str | None = None) -> list[SubmissionRecord]:
        """Return what was submitted of a night, or of all, in order; errors as in `records`."""
        folder = submissions_folder(self._out, night or "*")
        paths = sorted(self._out.glob(f"{folder.relative_to(self._out).as_posix()}/*.json"))
        return [_read(path) for path in paths]

    def add(self, record: SubmissionRecord, suffix: str) -> Path:
        """Record a report as submitted, and write it; return its path.

        Raises
        ------
        Retryable
            Somebody else has submitted at the same time (``submitted_meanwhile``), or the disk is full.
        Misconfigured
            The folder cannot be written.
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
        """Write a submitted report again, unless it is there; return its path. Errors as in `write_file`."""
        path = submissions_folder(self._out, record.night) / f"{record.number:03d}.{suffix}"
        if not path.exists():
            write_file(path, record.text.encode(), staging_folder(self._out))
        return path


def nights_beside(night: str) -> list[str]:
    """Return the labels of the night before a night, of itself, and of the one after it."""
    day = date(int(night[:4]), int(night[4:6]), int(night[6:]))
    return [(day + timedelta(days=step)).strftime("%Y%m%d") for step in (-1, 0, 1)]


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
    """Detections that were submitted, by exposure; the latest report of each counts."""

    by_exposure: dict[tuple[int, int], list[ReportedDetection]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[SubmissionRecord]) -> "Submitted":
        """Return the detections of records, in order; what a correction repeats is in the place of what was before."""
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
        """Return, by place in ``rows`` (of `dia_source`), the detection that was submitted; the nearest pairs first.

        One that is trailed may have moved along its trail by a quarter of it.
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
        """Return the names of tracklets that were given."""
        return {one.trkSub for known in self.by_exposure.values() for one in known if one.trkSub}


def _apart(places: NDArray[np.float64], ra: float, dec: float) -> NDArray[np.float64]:
    """Return how far places, (n, 2), are from one, arcsec."""
    east = ((places[:, 0] - ra + 180) % 360 - 180) * np.cos(np.radians(dec))
    return np.asarray(np.hypot(east, places[:, 1] - dec)) * 3600
