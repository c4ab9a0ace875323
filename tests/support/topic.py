"""Topics of Kafka for tests: of librdkafka's mock cluster, or of the broker that NIGHTSTRIDE_TEST_KAFKA names."""

import os
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.faults.kafka_broker import Broker
from tests.support.wait import until

REAL = os.environ.get("NIGHTSTRIDE_TEST_KAFKA")
"""HOST:PORT of a broker on which topics may be made."""


def broker_of_tests():
    return Broker(REAL)


def new_topic(broker, stem):
    """Return the name of a topic that nobody has used."""
    name = f"{stem}-{uuid4().hex[:8]}"
    if REAL is None:  # the mock cluster makes topics when a producer asks for them
        producer = Producer({"bootstrap.servers": broker.address, "log_level": 2})
        until(lambda: producer.list_topics(name, timeout=30).topics[name].partitions, 30)
    else:
        admin = AdminClient({"bootstrap.servers": broker.address})  # which has to live until it is answered
        (made,) = admin.create_topics([NewTopic(name, 4)]).values()
        made.result(30)
    return name


class Reader:
    """Reader of a whole topic from its beginning, who is in no group."""

    def __init__(self, broker, topic):
        settings = {"bootstrap.servers": broker.address, "group.id": "nobody", "fetch.wait.max.ms": 10, "log_level": 2}
        self._consumer = Consumer({**settings, "enable.auto.commit": False})
        partitions = until(lambda: self._consumer.list_topics(topic, timeout=30).topics[topic].partitions, 30)
        self._consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one in partitions])
        self.messages = []

    def take(self, seconds=0.0):
        """Add what has come to ``messages``; return how many they are."""
        for message in self._consumer.consume(1000, timeout=seconds):
            if message.error() is None:
                self.messages.append(message)
        return len(self.messages)

    def until(self, count, seconds=60):
        until(lambda: self.take(0.1) >= count, seconds, every=0)
        return self.messages

    def follow(self, over):
        """Take what comes until something is over: the mock cluster keeps 5 MB of a partition."""
        until(lambda: self.take(0.1) >= 0 and over(), every=0.2)

    def close(self):
        self._consumer.close()
