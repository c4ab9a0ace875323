import asyncio
import os
import signal
import subprocess
import sys
import threading

from flows.drain import Drain


def test_a_signal_asks_and_ends_the_sleep():
    async def run():
        drain = Drain()
        with drain.on_signals():
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(drain.sleep(600), 60)
        return drain.asked

    before = signal.getsignal(signal.SIGTERM)
    assert asyncio.run(run())
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_a_signal_it_sleeps():
    async def run():
        drain = Drain()
        await drain.sleep(0.01)
        return drain.asked

    assert not asyncio.run(run())


def test_the_second_signal_ends_the_process():
    code = """
import asyncio, os, signal
from flows.drain import Drain

async def run():
    drain = Drain()
    with drain.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        await drain.sleep(600)
        print("asked", drain.asked, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(600)

asyncio.run(run())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert ended.stdout == "asked True\n"
    assert ended.returncode == -signal.SIGTERM


def test_in_another_thread_nothing_is_listened_to():
    found = []

    async def run():
        drain = Drain()
        with drain.on_signals():
            found.append(drain.asked)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join(60)
    assert found == [False]
