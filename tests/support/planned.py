"""Planner of exposures that are text files."""

import json
import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from flows.inputs.source import Source
from flows.pipeline.lineage import trace, verdict_digest
from flows.pipeline.models import model_digests
from flows.pipeline.plan import Planner
from flows.storage.ledger import Ledger
from schemas.errors import BadInput, Retryable
from schemas.exposure import ExposureKey
from schemas.ledger import DatasetRecord, ExposureRecord
from schemas.settings import Settings
from stages import PIPELINE


class World:
    """Text files "<visit> <detector> <pixels>" as exposures, and an output folder."""

    def __init__(self, folder, models):
        self.raw, self.out = folder / "raw", folder / "out"
        self.raw.mkdir()
        self.settings = Settings(detect={"model": str(models)}, measure={"model": str(models)})
        self.probed, self.hashed, self.examined = [], [], []

    def source(self, name, text):
        path = self.raw / name
        path.write_text(text)
        # Later than before, whatever the clock's resolution: a changed file has a changed time.
        later = time.time_ns() + len(self.probed) * 10**9
        os.utime(path, ns=(later, later))
        return Source(str(path))

    def probe(self, source, settings):
        self.probed.append(Path(source.uri).name)
        visit, detector, *_ = Path(source.uri).read_text().split()
        if not visit.isdigit():
            raise BadInput("missing_keyword", source.uri, "the header has no keyword EXPID.", "add it.")
        return ExposureKey(night="20260101", visit=int(visit), detector=int(detector))

    def examine(self, source, settings):
        self.examined.append(Path(source.uri).name)
        if "damaged" in Path(source.uri).read_text():
            raise BadInput("damaged", source.uri, "its bytes cannot be decoded.", "fetch the file again.")

    def sha256_of(self, source, settings):
        self.hashed.append(Path(source.uri).name)
        files = [Path(uri) for uri in (source.uri, *(uri for _, uri in source.siblings))]
        if not all(path.exists() for path in files):
            raise Retryable("unreadable_file", source.uri, "cannot be read.", "see to it.")
        return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def plan(self, *sources, settings=None, **how):
        self.probed, self.hashed, self.examined = [], [], []
        asked = self.probe, self.sha256_of, self.examine
        return Planner(self.out, settings or self.settings, PIPELINE, *asked, **how).plan(sources)

    def kept(self):
        """Codes in the quarantine folder."""
        return [json.loads(path.read_text())["code"] for path in sorted((self.out / "quarantine").glob("*.json"))]

    def publish(self, item, status="done", settings=None):
        """Write what a run would leave of an exposure."""
        settings = settings or self.settings
        sha = self.sha256_of(item.source, settings)
        lineage = trace(item.source, sha, PIPELINE, model_digests(PIPELINE, settings), settings)
        path = self.out / "catalogs" / f"{item.key.name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lineage.final)
        file = DatasetRecord(
            path=f"catalogs/{path.name}", digest=lineage.final, rows=3, sha256=sha256(path.read_bytes()).hexdigest()
        )
        Ledger(self.out).put(
            ExposureRecord(
                **item.key.model_dump(),
                source_uri=item.source.uri,
                source_sha256=sha,
                source_stat=item.stat,
                digest=lineage.final if status == "done" else verdict_digest(lineage.final, settings),
                datasets={"dia_source": file} if status == "done" else {},
                detections=3,
                status=status,
                reason=None if status == "done" else "flood: too many rows",
                software="0",
                finished_at="now",
            )
        )
        return path


@pytest.fixture
def world(tmp_path, card_folder):
    return World(tmp_path, card_folder)


@pytest.fixture(scope="module")
def card_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    for name in ("detect", "reliability"):
        (folder / f"{name}.json").write_text(
            f'{{"stage": "{name}", "name": "{name}", "version": "0", "sha256": "{name}", "input": {{}}, "classes": [], '
            '"training": {}, "metrics": {}, "threshold": 0.5, "false_alarm_rate": "none"}'
        )
    return folder
