import pytest

from flows.publish.container import write_container
from flows.publish.outbox import opened_outbox
from flows.publish.sinks import FolderSink, OwedVisits, Sent
from flows.publish.ztf_schema import container_schema
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from tests.support.packets import NIGHT, VISIT, packet, packets

DOWN = Retryable("kafka_down", "x", "is down.", "wait.")
REFUSED = Misconfigured("kafka_refuses", "x", "refuses.", "ask.")


def key(night=NIGHT, visit=VISIT):
    return ExposureKey(night=night, visit=visit, detector=3)


def test_what_became_of_packets_adds_up():
    one = Sent(1, 10, 2, 3, 4, 5, 6, None, (1.0,))
    both = one + Sent(10, 100, 20, 30, 40, 50, 60, DOWN, (2.0, 3.0))
    assert both == Sent(11, 110, 22, 33, 44, 55, 66, DOWN, (1.0, 2.0, 3.0))
    assert (Sent(trouble=REFUSED) + Sent(trouble=DOWN)).trouble is REFUSED
    assert (Sent(trouble=REFUSED) + Sent()).trouble is REFUSED
    assert Sent() + Sent() == Sent()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (Sent(5), 0), (Sent(5, kept=1, held=1, withdrawn=1), 0), (Sent(dead=1), 3), (Sent(left=1), 1),
        (Sent(left=1, dead=1), 1), (Sent(trouble=DOWN), 1), (Sent(left=1, trouble=REFUSED), 2),
        (Sent(dead=1, trouble=DOWN), 1),
    ],
)  # fmt: skip
def test_exit_codes(sent, code):
    assert sent.exit_code == code


def test_a_folder_refuses_visits_of_another_night_until_they_are_its_own(tmp_path):
    write_container(tmp_path / f"{VISIT}.avro", container_schema("11.1"), [packet(1).body], "20250101")
    sink = FolderSink(tmp_path)
    for _ in range(2):
        with pytest.raises(BadInput) as caught:
            sink.wanted(key(), "11.1", "x", [1])
        assert caught.value.code == "other_night"
    assert sink.wanted(key(visit=VISIT + 1), "11.1", "x", [1, 2, 3]) == [True] * 3
    sink.send(iter([packet(1)]))
    assert sink.wanted(key(), "11.1", "x", []) == []
    with pytest.raises(BadInput):
        FolderSink(tmp_path).wanted(key("20270101"), "11.1", "x", [1])


def test_folders_are_the_same_whatever_was_sent_there(tmp_path):
    one, other = FolderSink(tmp_path), FolderSink(tmp_path)
    one.wanted(key(), "11.1", "x", [1])
    assert one == other
    assert len({one, other}) == 1
    assert one != FolderSink(tmp_path / "b")
    with pytest.raises(TypeError):
        FolderSink(tmp_path, set())


def test_a_folder_counts_what_it_writes_and_owes_nothing(tmp_path):
    sink = FolderSink(tmp_path / "to")
    sent = sink.send(packets(3))
    assert (sent.alerts, sent.bytes, len(sent.times)) == (3, sum(len(one.body) for one in packets(3)), 3)
    assert sink.path(VISIT).exists()
    owed = sink.owed("11.1")
    owed.add(NIGHT, VISIT)
    owed.settle(NIGHT, VISIT, 0)
    assert (owed.turn(NIGHT, VISIT), owed.given_up(), owed.all()) == (0, [], set())


def test_visits_are_owed_by_the_outbox_of_a_sink(tmp_path):
    with opened_outbox(tmp_path) as box:
        owed, others = (OwedVisits(box, box.route(name, "11.1")) for name in ("a", "b"))
        owed.add(NIGHT, VISIT)
        assert owed.all() == {(NIGHT, VISIT)}
        assert owed.turn(NIGHT, VISIT) > 0
        assert (others.all(), others.turn(NIGHT, VISIT)) == (set(), 0)
        owed.settle(NIGHT, VISIT, owed.turn(NIGHT, VISIT), BadInput("bad", "x", "is bad.", "mend it."), "d")
        assert [(one.visit, one.code, one.made_from) for one in owed.given_up()] == [(VISIT, "bad", "d")]
        assert (owed.all(), others.given_up()) == (set(), [])
