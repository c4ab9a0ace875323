"""Exposures that are delivered twice."""

import shutil

from confluent_kafka import Consumer, TopicPartition

from benchmarks.faults.fault import Fault
from benchmarks.faults.inputs import WATCHING, deliver
from benchmarks.faults.kafka_broker import Broker
from benchmarks.faults.scene import Scene

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
            shutil.copyfile(path, arriving / f".again_{path.name}")
            (arriving / f".again_{path.name}").rename(arriving / f"again_{path.name}")

    scene.strike(again)
    scene.finish(command)
    copies = len(scene.lab.images)
    scene.require(scene.summary(0)["exposures"]["skipped"] == copies, f"{copies} copies are skipped")


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
    Fault("delivered twice, files", "every exposure again under another name, to `watch`", twice_by_file),
    Fault("delivered twice, messages", "every exposure announced again by Kafka, to `watch`", twice_by_message),
)
