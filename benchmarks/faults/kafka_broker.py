"""Kafka broker inside this process: librdkafka's own mock cluster, used over the network."""

from confluent_kafka import Producer


class Broker:
    """Broker that runs as long as it is referenced, or is at an address; topics appear when they are written to."""

    def __init__(self, address=None):
        if address is None:
            self._host = Producer({"bootstrap.servers": "localhost:1", "test.mock.num.brokers": 1})
            (broker,) = self._host.list_topics(timeout=30).brokers.values()
            address = f"{broker.host}:{broker.port}"
        self.address = address
        self._producer = Producer({"bootstrap.servers": self.address})

    def send(self, topic, *values, partition=0):
        for value in values:
            self._producer.produce(topic, value, partition=partition)
        assert self._producer.flush(30) == 0
