import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import fastavro
import pytest

from flows.publish.delivery import _messages, kafka_sink, opened_sink, outbox_to_read, replay
from flows.publish.outbox import Letter, mark_of, opened_outbox
from flows.storage.bucket_path import located
from flows.storage.layout import outbox_path
from schemas.alert_settings import AlertSettings
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from tests.support.memory_store import bucket_in_memory
from tests.support.packets import packet, packets
from tests.support.unwritable import nobody_may_write


def read(folder):
    found = {}
    for path in sorted(Path(folder).glob("*.avro")):
        with path.open("rb") as file:
            found[path.name] = [record["diaSourceId"] for record in fastavro.reader(file)]
    return found


def send(to, out, count, settings=None, **options):
    with opened_sink(str(to), out, settings or AlertSettings()) as sink:
        return sink.send(packets(count, first=1, **options))


def test_a_container_is_written_whole_and_its_alerts_are_recorded(tmp_path):
    sink = tmp_path / "sink"
    sent = send(sink, tmp_path / "out", 450)
    assert (sent.alerts, sent.kept, sent.exit_code) == (450, 0, 0)
    assert len(sent.times) == 450
    assert read(sink) == {"77.avro": list(range(1, 451))}
    before = (sink / "77.avro").read_bytes()
    again = send(sink, tmp_path / "out", 450)
    assert (again.alerts, again.kept) == (0, 450)
    assert (sink / "77.avro").read_bytes() == before


def test_an_empty_container_is_replaced_and_its_alerts_are_sent_again(tmp_path, monkeypatch):
    bucket = bucket_in_memory(monkeypatch)[0]
    for sink in (tmp_path / "sink", bucket / "sink"):
        send(sink, tmp_path / "out", 3)
        path = sink / "77.avro"
        before = path.read_bytes()
        path.write(b"") if sink.is_relative_to(bucket) else path.write_bytes(b"")
        with opened_sink(str(sink), tmp_path / "out", AlertSettings()) as opened:
            assert opened.wanted(ExposureKey(night="20260102", visit=77, detector=1), "11.1", "d", [1]) == [True]
        again = send(sink, tmp_path / "out", 3)
        assert (again.alerts, again.kept) == (3, 0)
        assert path.read_bytes() == before


def test_a_visit_that_is_searched_again_replaces_its_container(tmp_path):
    sink = tmp_path / "sink"
    send(sink, tmp_path / "out", 3)
    renewed = send(sink, tmp_path / "out", 2, made_from="another search", snr=8.0)
    assert (renewed.alerts, renewed.kept, renewed.held) == (2, 0, 0)
    assert read(sink) == {"77.avro": [1, 2]}
    with opened_outbox(tmp_path / "out") as box:
        assert list(box.counts().values()) == [{"sent": 5}]
    again = send(sink, tmp_path / "out", 2, made_from="another search", snr=8.0)
    assert (again.alerts, again.kept) == (0, 2)


def test_a_container_that_cannot_be_finished_leaves_the_one_before_and_marks_nothing(tmp_path):
    sink, out = tmp_path / "sink", tmp_path / "out"
    send(sink, out, 3)

    def broken():
        yield from packets(505, first=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), opened_sink(str(sink), out, AlertSettings()) as opened:
        opened.send(broken())
    assert read(sink) == {"77.avro": [1, 2, 3]}
    with opened_sink(str(sink), out, AlertSettings()) as opened:
        assert opened.owed("11.1").all() == {("20260102", 77)}
    assert (send(sink, out, 505).alerts, read(sink)) == (502, {"77.avro": list(range(1, 506))})


def test_without_an_outbox_folders_are_written_and_topics_are_refused(tmp_path):
    out = located("s3://bucket/out")
    assert send(tmp_path / "sink", out, 3).alerts == 3
    with (
        pytest.raises(Misconfigured, match=r"alerts\.outbox") as caught,
        opened_sink("kafka://h:1/t", out, AlertSettings()),
    ):
        pass
    assert caught.value.code == "outbox_in_bucket"
    elsewhere = AlertSettings(outbox=tmp_path / "box.sqlite")
    assert send(tmp_path / "sink", out, 4, elsewhere).alerts == 4
    assert send(tmp_path / "sink", out, 4, elsewhere).kept == 4


@pytest.mark.parametrize("to", ["ftp://host/x", "s3://", "kafka://host", "kafka://user:pass@host/t"])
def test_a_sink_that_is_none_is_refused(tmp_path, to):
    with pytest.raises(Misconfigured), opened_sink(to, tmp_path, AlertSettings()):
        pass


def test_a_file_is_no_folder_for_alerts(tmp_path):
    (tmp_path / "alerts").touch()
    to = str(tmp_path / "alerts")
    with pytest.raises(Misconfigured, match="is a file, no folder"), opened_sink(to, tmp_path, AlertSettings()):
        pass


def test_a_topic_gets_what_another_search_had_found_before_only_if_asked(tmp_path):
    url, settings = "kafka://localhost:9/t", AlertSettings()
    before, later = (packet(1, made_from=name) for name in ("one search", "another search"))
    with opened_outbox(tmp_path) as box:
        route = box.route(url, "11.1")
        box.enter(route, [before])
        box.record(route, [(mark_of(before), 1.0)])
    key = ExposureKey(night=later.night, visit=later.visit, detector=later.detector)
    for options, wanted in (({}, [False]), ({"again": False}, [False]), ({"again": True}, [True])):
        with opened_sink(url, tmp_path, settings, **options) as sink:
            assert sink.wanted(key, "11.1", "another search", [1]) == wanted
        with opened_outbox(tmp_path) as box:
            assert kafka_sink(url, settings, box, **options).wanted(key, "11.1", "another search", [1]) == wanted


def test_letters_go_to_topics_only(tmp_path):
    with pytest.raises(Misconfigured, match="is not a topic"):
        replay(tmp_path, str(tmp_path / "folder"), AlertSettings())


@pytest.mark.parametrize("code", ["alert_schema", "no_ztf_form"])
def test_what_was_never_made_into_a_message_is_not_replayed(tmp_path, code):
    url = "kafka://127.0.0.1:9/alerts"
    (one,) = packets(1)
    with opened_sink(url, tmp_path, AlertSettings()) as sink:
        sink.bury(one, BadInput(code, "alert", "is not one.", "make it again."))
    found, sent = replay(tmp_path, url, AlertSettings())
    assert (found.letters, found.sent, found.left, sent.trouble) == (0, 0, 0, None)
    with opened_outbox(tmp_path) as outbox:
        assert [letter.code for letter in outbox.letters()] == [code]


def test_letters_that_are_messages_are_read_once_each_also_where_they_are_forgotten_meanwhile(tmp_path):
    mark = mark_of(packet(1))
    with opened_outbox(tmp_path) as box:
        route = box.route("kafka://h:1/t", "11.1")
        for n in range(150):
            for name, key, of in (("received", None, None), ("made", None, mark), ("sent", b"1", mark)):
                own = None if of is None else of._replace(source=1000 * n + len(name))
                box.record(route, [], [Letter(f"{name} {n}", "x", "x", key, b"v", own)])
        found = []
        for letter in _messages(box):
            found.append(letter.name)
            box.revive(letter, 1.0)
        assert found == [f"{name} {n}" for n in range(150) for name in ("received", "sent")]
        assert {letter.name.split()[0] for letter in box.letters()} == {"made"}


@pytest.mark.parametrize("missing", [None, "given_up"])
def test_an_outbox_is_read_where_nothing_can_be_written(missing):
    with TemporaryDirectory() as top:  # that of pytest is its user's alone
        Path(top).chmod(0o755)
        send(Path(top, "sink"), Path(top), 3)
        path = outbox_path(Path(top))
        if missing:
            with closing(sqlite3.connect(path)) as base:
                base.execute(f"DROP TABLE {missing}")
        path.chmod(0o444)
        before = path.read_bytes()
        with nobody_may_write(path.parent), closing(outbox_to_read(path)) as box:
            (counts,) = box.counts().values()
            assert (counts, box.reasons(), box.given_up()) == ({"sent": 3}, {}, [])
            with pytest.raises(Misconfigured, match="may not be written") as caught:
                box.forget("20260102")
            assert caught.value.code == "not_writable"
        assert path.read_bytes() == before
        assert sorted(one.name for one in path.parent.iterdir()) == ["outbox.lock", "outbox.sqlite"]
