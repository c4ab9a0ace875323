"""Broker and topics of a test."""

import pytest

from tests.support.topic import Reader, broker_of_tests, new_topic


@pytest.fixture(scope="module")
def broker():
    return broker_of_tests()


@pytest.fixture
def topic(request, broker):
    return new_topic(broker, request.node.name.partition("[")[0][-40:])


@pytest.fixture
def url(broker, topic):
    return f"kafka://{broker.address}/{topic}"


@pytest.fixture
def reader(broker, topic):
    found = Reader(broker, topic)
    yield found
    found.close()
