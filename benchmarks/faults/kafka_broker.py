"""Kafka broker inside this process: librdkafka's own mock cluster, used over the network."""

from confluent_kafka import Producer

_RUNNING = list[Producer]()  # mock clusters: none ends before its clients, which may be destroyed late


class Broker:
    """Broker that runs until the process ends, or is at an address; topics appear when they are written to."""

    def __init__(self, address=None):
        if address is None:
            host = Producer({"bootstrap.servers": "localhost:1", "test.mock.num.brokers": 1})
            _RUNNING.append(host)
            (broker,) = host.list_topics(timeout=30).brokers.values()
            address = f"{broker.host}:{broker.port}"
        self.address = address
        self._producer = Producer({"bootstrap.servers": self.address})

    def send(self, topic, *values, partition=0):
        for value in values:
            self._producer.produce(topic, value, partition=partition)
        assert self._producer.flush(30) == 0
