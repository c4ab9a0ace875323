"""Exposures that are delivered twice."""

import shutil
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from benchmarks.faults.fault import Fault
from benchmarks.faults.inputs import WATCHING, deliver
from benchmarks.faults.kafka_broker import Broker
from benchmarks.faults.scene import Scene
from flows.storage.association_tables import VISIT

TOPIC, GROUP = "exposures", "night"


def twice_by_file(scene: Scene) -> None:
    """Deliver all exposures a second time, under other names, while the first are on their way."""
    arriving = scene.folder / "arriving"
    arriving.mkdir()
    command = scene.start(arriving, verb="watch", options=WATCHING)
    deliver(scene.lab.raw, arriving)
    scene.until(lambda: scene.done() >= 1, command)

    def again() -> None:
        for path in scene.lab.images:
            _again(arriving / path.name)

    scene.strike(again)
    scene.finish(command)
    copies = len(scene.lab.images)
    scene.require(scene.summary(0)["exposures"]["skipped"] == copies, f"{copies} copies are skipped")


def visit_twice(scene: Scene) -> None:
    """Deliver a visit a second time, under other names, when it is associated and its alerts are sent."""
    arriving, alerts = scene.folder / "arriving", scene.folder / "alerts"
    arriving.mkdir()
    scene.environment["NIGHTSTRIDE_ALERTS__TO"] = str(alerts)
    command = scene.start(arriving, verb="watch", options=WATCHING)
    visits = sorted({path.name.partition("_q")[0] for path in scene.lab.images})
    victim, sent = scene.rng.choice(visits[:-1]), dict[Path, tuple[int, bytes]]()
    for number, visit in enumerate(visits, 1):
        deliver(scene.lab.raw, arriving, visit=visit)
        wanted = number, number * scene.lab.size.detectors
        scene.until(lambda wanted=wanted: (len(_files(alerts)), scene.associated(VISIT)) == wanted, command)
        if visit == victim:
            sent = _files(alerts)
            scene.strike(lambda: [_again(path) for path in arriving.glob(f"{victim}*scimrefdiffimg*")])
    scene.finish(command)
    scene.require(scene.summary(0)["exposures"]["skipped"] == scene.lab.size.detectors, "its copies are skipped")
    scene.require(sent.items() <= _files(alerts).items(), "no alert that was sent is sent again or has changed")


def _again(path: Path) -> None:
    shutil.copyfile(path, path.with_name(f".again_{path.name}"))
    path.with_name(f".again_{path.name}").rename(path.with_name(f"again_{path.name}"))


def _files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return the files in a folder, with their times and contents."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def twice_by_message(scene: Scene) -> None:
    """Announce all exposures a second time, by messages in another order, while the first are on their way."""
    broker, files = Broker(), [str(path) for path in scene.lab.images]
    broker.send(TOPIC, *files)
    command = scene.start(f"kafka://{broker.address}/{TOPIC}?group={GROUP}", verb="watch", options=WATCHING)
    scene.until(lambda: scene.done() >= 1, command)
    scene.strike(lambda: broker.send(TOPIC, *scene.rng.sample(files, len(files))))
    scene.finish(command)
    committed = _committed(broker)
    scene.require(committed == 2 * len(files), f"{committed} messages are read and committed")


def _committed(broker: Broker) -> int:
    reader = Consumer({"bootstrap.servers": broker.address, "group.id": GROUP})
    try:
        partitions = reader.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
        found = reader.committed([TopicPartition(TOPIC, number) for number in partitions], timeout=30)
        return sum(max(0, one.offset) for one in found)
    finally:
        reader.close()


FAULTS = (
    Fault(
        "visit delivered twice",
        "a visit again under other names, to `watch` that sends alerts, when those of the visit are sent",
        visit_twice,
    ),
    Fault("delivered twice, files", "every exposure again under another name, to `watch`", twice_by_file),
    Fault("delivered twice, messages", "every exposure announced again by Kafka, to `watch`", twice_by_message),
)
