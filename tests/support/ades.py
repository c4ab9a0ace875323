"""Nights to be reported to the Minor Planet Center, without pixels, and readers of reports that are not ours."""

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from kernels.sky.times import night_label
from schemas.ades import AdesSettings
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.ledger import NightRecord
from schemas.tracklets import TRACKLET, TRACKLET_SOURCE
from tests.support.exposure import exposure_record
from tests.support.filled import filled_rows
from tests.support.tracklets import linked, mover, numbered, source_id, source_table

NIGHT = "20261103"
GIVEN = {
    "mpc_code": "I41", "submitter": "A. Sender", "measurers": ("B. Measurer", "C. Other"),
    "observers": ("D. Observer",), "ast_cat": "Gaia2", "funding_source": "Nobody & <Sons>", "comments": ("Of a test.",),
}  # fmt: skip
SETTINGS = AdesSettings(**GIVEN)
CONFIG = """[ades]
mpc_code = "I41"
submitter = "A. Sender"
measurers = ["B. Measurer", "C. Other"]
ast_cat = "Gaia2"
"""

REAL = Path(os.environ.get("NIGHTSTRIDE_DATA", "none")) / "10_mpc_orbits"
needs_schema = pytest.mark.skipif(
    not (REAL / "ades").is_dir(), reason="NIGHTSTRIDE_DATA holds no schemas of ADES (10_mpc_orbits/ades)"
)
needs_ztf = pytest.mark.skipif(
    not (REAL / "ztf_asteroid_detections.parquet").is_file(), reason="NIGHTSTRIDE_DATA holds no detections of ZTF"
)


def measured(**changes):
    """Columns of a detection that is measured well."""
    return {
        "band": "r", "snr": 20.0, "magABErr": 0.05, "ra_dec_Cov": 0.3 * (0.1 / 3600) ** 2, "trailLengthErr": 0.1,
        "trailAngleErr": 1.0, "reliabilityVersion": "x", "flags": 0,
    } | changes  # fmt: skip


def two_movers(**changes):
    """Rows of `dia_source` of two movers on three visits, and the ids of each."""
    groups = [mover(150.0, 20.0, 0.5, 40.0, range(3)), mover(150.2, 20.1, 1.5, 200.0, range(3))]
    rows, ids = numbered(groups)
    return [row | measured(**changes) for row in rows], ids


def publish_rows(out, rows, known=None, night=NIGHT, digest="d"):
    """Publish a night of detections, linked; ``known`` gives designations by diaSourceId."""
    store, ledger, known = CatalogStore(out), Ledger(out), known or {}
    for visit, detector in sorted({exposure_of(row["diaSourceId"]) for row in rows}):
        key = ExposureKey(night=night, visit=visit, detector=detector)
        here = [row for row in rows if exposure_of(row["diaSourceId"]) == (visit, detector)]
        tables = {DIA_SOURCE: source_table(here)}
        if known:
            tables[SS_SOURCE] = known_table([row["diaSourceId"] for row in here], known)
        datasets = {one.name: store.record(store.publish(one, key, table, digest)) for one, table in tables.items()}
        told = {"source_uri": key.name, "digest": digest, "finished_at": "2026-11-04T04:00:00+00:00"}
        ledger.put(exposure_record(key, datasets=datasets, **told))
    links, tracklets = linked(source_table(rows))
    if known:
        tracklets = _with_names(links, tracklets, known)
    datasets = {
        one.name: store.record(store.publish(one, night, table, digest))
        for one, table in ((TRACKLET_SOURCE, links), (TRACKLET, tracklets))
    }
    ledger.put_night(
        NightRecord(night=night, datasets=datasets, exposures=1, software="0", finished_at="2026-11-04T04:00:00+00:00")
    )
    return tracklets


def known_table(ids, known):
    """Rows of `ss_source`, with nothing but the designation in them."""
    rows = [{"diaSourceId": one, "designation": known[one]} for one in ids if one in known]
    return filled_rows(SS_SOURCE.schema, rows)


def _with_names(links, tracklets, known):
    """Name tracklets by the object that at least half of their detections are."""
    members = {}
    for one, tracklet in zip(links["diaSourceId"].to_pylist(), links["trackletId"].to_pylist(), strict=True):
        members.setdefault(tracklet, []).append(known.get(one, ""))
    names = []
    for one in tracklets["trackletId"].to_pylist():
        name = max(set(members[one]), key=members[one].count)
        names.append(name if 2 * members[one].count(name) >= len(members[one]) else "")
    place = tracklets.schema.get_field_index("designation")
    return tracklets.set_column(place, TRACKLET.schema.field("designation"), pa.array(names, pa.string()))


def ztf_nights():
    """Night -> rows of `dia_source` of ZTF's detections of asteroids, and diaSourceId -> number of the asteroid."""
    table = pq.read_table(REAL / "ztf_asteroid_detections.parquet").to_pandas().sort_values(["jd", "candid"])
    nights, known, ranks = {}, {}, {}
    for row in table.itertuples():
        visit = row.candid // 10**9  # night and fraction of the day
        rank = ranks[visit, row.rcid] = ranks.get((visit, row.rcid), -1) + 1
        one = source_id(visit, row.rcid, rank)
        middle = row.jd - 2400000.5 + row.exptime / 2 / 86400
        night = night_label(middle, -116.86)
        known[one] = str(row.ssnamenr)
        nights.setdefault(night, []).append({
            "diaSourceId": one, "ra": row.ra, "dec": row.dec, "raErr": 0.1 / 3600, "decErr": 0.1 / 3600,
            "midpointMjdTai": middle + 37 / 86400, "exposureTime": row.exptime, "magAB": row.magpsf,
            "magABErr": row.sigmapsf, "band": " gri"[row.fid], "snr": abs(row.scorr), "reliability": row.drb,
            "trailClass": "", "flags": 0, "reliabilityVersion": "x",
        })  # fmt: skip
    return nights, known


def parsed(text, form):
    """Header (list of (group, name, text)) and observations (dicts of what is there) of a report, by standard means."""
    if form == "xml":
        (block,) = ElementTree.fromstring(text).findall("obsBlock")
        header = [(group.tag, one.tag, one.text) for group in block.find("obsContext") for one in group]
        alone = [(one.tag, "", one.text) for one in block.find("obsContext") if not len(one)]
        return header + alone, [{one.tag: one.text for one in row} for row in block.find("obsData")]
    header, rows, columns, group = [], [], None, ""
    for line in text.splitlines()[1:]:
        if line.startswith("#"):
            group, _, value = line[2:].partition(" ")
            header += [(group, "", value)] if value else []
        elif line.startswith("!"):
            header.append((group, *line[2:].split(" ", 1)))
        elif columns is None:
            columns = [cell.strip() for cell in line.split("|")]
        else:
            cells = [cell.strip() for cell in line.split("|")]
            assert len(cells) == len(columns)
            rows.append({name: cell for name, cell in zip(columns, cells, strict=True) if cell})
    return header, rows


def as_xml(header, rows):
    """A parsed report as XML by the standard library, in the order of the schema."""
    root = ElementTree.Element("ades", version="2022")
    block = ElementTree.SubElement(root, "obsBlock")
    context, data = ElementTree.SubElement(block, "obsContext"), ElementTree.SubElement(block, "obsData")
    groups = {}
    for group, name, text in header:
        if not name:
            ElementTree.SubElement(context, group).text = text
            continue
        parent = groups.setdefault(group, None)
        if parent is None:
            parent = groups[group] = ElementTree.SubElement(context, group)
        ElementTree.SubElement(parent, name).text = text
    for row in rows:
        one = ElementTree.SubElement(data, "optical")
        for name, text in row.items():
            ElementTree.SubElement(one, name).text = text
    return ElementTree.tostring(root, encoding="unicode")


def apart_arcsec(one, row):
    """How far a reported place is from that of a row."""
    east = (float(one["ra"]) - row["ra"]) * np.cos(np.radians(row["dec"]))
    return float(np.hypot(east, float(one["dec"]) - row["dec"])) * 3600
