"""Plan of a run over alert packets and their catalogues, without a search; the run: test_packet_run.py."""

import numpy as np
import pytest

from flows.inputs.packet_files import read_records
from flows.inputs.ztf_packets import identify
from flows.nights.packet_plan import PacketCatalogue, plan_packets
from flows.pipeline.packet_search import row_digest, search_digest
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.packet_source import ZTF_PACKET_SOURCE
from schemas.settings import Settings
from tests.support.alert_night import info_of, places, put, rows_of
from tests.support.vetting import filled
from tests.support.ztf import CANDID, record, write

KEY = ExposureKey(night="20181128", visit=69725284, detector=1)


def row(candid, digest="d", **columns):
    given = {"candid": candid, "visit": KEY.visit, "detector": KEY.detector, "digest": digest}
    return filled(ZTF_PACKET_SOURCE, [given | columns]).to_pylist()[0]


@pytest.fixture
def catalogue(tmp_path):
    return PacketCatalogue(tmp_path / "out", Settings())


def test_rows_replace_those_of_their_alerts_and_others_stay(catalogue, tmp_path):
    assert (catalogue.count(KEY), catalogue.record(KEY), catalogue.published(KEY)) == (0, None, ({}, None))
    catalogue.publish(KEY, "a.avro", [row(3, "x", detected=True), row(1, "y")])
    catalogue.publish(KEY, "b.avro", [row(2, "z", detected=True), row(1, "new")], gone=[7])
    expected = {1: ("new", False), 2: ("z", True), 3: ("x", True)}
    assert catalogue.published(KEY) == (expected, None)
    assert list(catalogue.published(KEY)[0]) == [1, 2, 3]
    found = Ledger(tmp_path / "out").get(KEY)
    assert (found.detections, found.source_uri, catalogue.count(KEY)) == (2, "b.avro", 3)
    assert catalogue.record(KEY) == found
    assert catalogue.nights == {KEY.night}


def test_without_rows_an_exposure_is_withdrawn(catalogue, tmp_path):
    catalogue.publish(KEY, "a.avro", [row(1), row(2)])
    path = tmp_path / "out" / catalogue.record(KEY).datasets[ZTF_PACKET_SOURCE.name].path
    catalogue.publish(KEY, "a.avro", [], gone=[1])
    assert catalogue.published(KEY)[0] == {2: ("d", False)}
    catalogue.publish(KEY, "a.avro", [], gone=[2])
    assert (catalogue.record(KEY), catalogue.count(KEY), path.exists()) == (None, 0, False)
    catalogue.publish(KEY, "a.avro", [])  # there is nothing to withdraw


def test_a_damaged_catalogue_is_made_again(catalogue, tmp_path):
    catalogue.publish(KEY, "a.avro", [row(1)])
    path = tmp_path / "out" / catalogue.record(KEY).datasets[ZTF_PACKET_SOURCE.name].path
    path.write_bytes(path.read_bytes()[:-9])
    assert (catalogue.record(KEY), catalogue.published(KEY)) == (None, ({}, None))


def test_packets_of_an_exposure_that_was_searched_as_an_image_are_not_published(catalogue, tmp_path):
    info, places_ = info_of(0, night=KEY.night, visit=KEY.visit, detector=1), places(2, (280, 300))
    put(tmp_path / "out", info, rows_of(info, *places_))
    write(tmp_path / "a.avro", record(CANDID), record(CANDID + 1))
    plan = plan_packets([str(tmp_path / "a.avro")], Settings(), catalogue)
    assert (plan.todo, plan.published, plan.quarantined) == ({}, [], [])
    assert {one.code for one in plan.failed} == {"conflict"}
    assert len(plan.failed) == 2


def kept(folder):
    """Names of what is in quarantine."""
    return [one.source_uri for one in Quarantine(folder / "out").list()]


def test_each_packet_is_to_be_searched_published_a_copy_or_refused(catalogue, tmp_path):
    settings, files = Settings(), [str(tmp_path / name) for name in ("a.avro", "b.avro", "c.avro")]
    one, two, other = record(CANDID), record(CANDID + 1), record(CANDID, np.ones((63, 63)) * np.arange(63))
    write(tmp_path / "a.avro", one, two)
    write(tmp_path / "b.avro", two, other)
    (tmp_path / "c.avro").write_bytes(b"no packet")
    read = [content for _, content in read_records(files[0])]
    searched = row_digest(identify(read[1], "x"), search_digest(settings))
    catalogue.publish(KEY, "a.avro", [row(CANDID + 1, searched, detected=True), row(CANDID, "of other settings")])
    plan = plan_packets(files, settings, catalogue)
    assert [packet.candid for packet in plan.todo.values()] == [CANDID]
    (there,) = plan.published
    assert (there.candid, there.detected, there.file) == (CANDID + 1, True, files[0])
    assert (plan.copies, plan.failed) == (1, [])
    assert plan.quarantined[0].code == "conflict"
    assert len(plan.quarantined) == len(Quarantine(tmp_path / "out").list()) == 2
    write(tmp_path / "b.avro", two)
    assert plan_packets(files[:2], settings, catalogue).quarantined == []
    catalogue.quarantine(there.name, BadInput("unreadable_file", there.name, "is not there.", "find it."), KEY)
    assert there.name in kept(tmp_path)
    plan_packets(files, settings, catalogue)
    assert there.name not in kept(tmp_path)
    assert files[2] in kept(tmp_path)
