"""Kill the producer of alerts at random, again and again: ``python -m benchmarks.alerting.alert_kills [--kills N]``.

A process sends alerts to a topic through an outbox; it is killed (SIGKILL) when a random number of them has been read
from the topic, and begun again, until it has sent all. A reader that drops repeated diaSourceIds must then have every
alert once, and the outbox must never call an alert sent that the topic has not. The broker is librdkafka's mock
cluster, or that of ``NIGHTSTRIDE_TEST_KAFKA``. Exit code 1 if an alert was lost.
"""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from benchmarks.support.command_line import command_line
from flows.publish.delivery import opened_sink
from flows.storage.layout import outbox_path
from schemas.alert_settings import AlertSettings
from tests.support.packets import packets
from tests.support.topic import Reader, broker_of_tests, new_topic

ALERTS, KILLS, FIRST = 10_000, 20, 1 << 40


def send(out, url, alerts):
    """Send so many alerts, of the same ids each time; tell what became of them."""
    with opened_sink(url, out, AlertSettings()) as sink:
        sent = sink.send(packets(alerts, FIRST))
    print(json.dumps({"alerts": sent.alerts, "kept": sent.kept, "left": sent.left}))
    return sent.exit_code


def killed_again_and_again(out, alerts, kills, seed):
    """Return what a reader has got, what the last producer did, and how often one was killed before it was done."""
    broker, moments = broker_of_tests(), random.Random(seed)
    topic = new_topic(broker, "kills")
    reader = Reader(broker, topic)
    found, made = Counter(), 0
    for left in range(kills, 0, -1):
        process = _started(out, f"kafka://{broker.address}/{topic}", alerts)
        # So that some are left for the kills to come.
        wanted = len(found) + moments.randint(1, max(1, (alerts - len(found)) // (left + 1)))
        while len(found) < wanted and process.poll() is None:
            _read(reader, found, 0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        made += process.returncode == -signal.SIGKILL
        _read(reader, found, 1.0)
        assert marked_sent(out) <= found.keys(), "the outbox calls alerts sent that the topic has not"
    process = _started(out, f"kafka://{broker.address}/{topic}", alerts)
    while process.poll() is None:
        _read(reader, found, 0.01)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    while _read(reader, found, 2.0):
        pass
    reader.close()
    return found, json.loads(said), made


def marked_sent(out):
    """Return diaSourceIds that an outbox says have arrived."""
    with closing(sqlite3.connect(outbox_path(out))) as base:
        return {source for (source,) in base.execute("SELECT source FROM entry WHERE state = 1")}


def _started(out, url, alerts):
    command = [
        sys.executable,
        "-m",
        "benchmarks.alerting.alert_kills",
        "--send",
        url,
        "--out",
        str(out),
        "--alerts",
        str(alerts),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _read(reader, found, seconds):
    """Add what has come; return how many messages."""
    before = len(reader.messages)
    reader.take(seconds)
    new, reader.messages = reader.messages[before:], []
    found.update(int(message.key()) for message in new)
    return len(new)


def main():
    """Run the command."""
    only = "Only send, to this URL, as the process that is killed does."
    given = command_line(__doc__, kills=KILLS, alerts=ALERTS, seed=1, send=(str, only), out=Path)
    if given.send is not None:
        return send(given.out, given.send, given.alerts)
    with tempfile.TemporaryDirectory(prefix="nightstride-") as folder:
        found, last, kills = killed_again_and_again(Path(folder), given.alerts, given.kills, given.seed)
    lost = set(range(FIRST, FIRST + given.alerts)) - found.keys()
    repeated = sum(found.values()) - len(found)
    print(
        f"{kills} kills: {len(found)} of {given.alerts} alerts read, {len(lost)} lost, {repeated} read again; "
        f"the last producer sent {last['alerts']} and kept {last['kept']}."
    )
    return int(bool(lost) or len(found) != given.alerts)


if __name__ == "__main__":
    sys.exit(main())
