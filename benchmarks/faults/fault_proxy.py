"""TCP proxy in front of an HTTP server that delays, refuses and cuts, by a plan that is the same every time."""

import asyncio
import itertools
import threading
from contextlib import suppress
from dataclasses import dataclass, field

REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
COUNTED = ("requests", "refused", "cut", "cut_request", "slow", "reset")
PIECES = 4
"""Number of parts of a slow answer."""

SLOW_S = 1.0
"""Duration of a slow answer, s."""


@dataclass
class Faults:
    """Faults of the n-th request, n = 1, 2, ...: at fixed intervals one is refused, has its answer cut, or waits.

    ``cut_request`` cuts while the request is sent on, so that the server sees a part of it. ``unconditional``: headers
    with conditions are dropped, as by a server that does not know them. ``slow``: what is read comes in pieces, in
    `SLOW_S`. ``down``: every connection is reset. ``lines``: the first line of each request.
    """

    refuse: int = 0
    cut: int = 0
    cut_request: int = 0
    latency_s: float = 0.0
    slow: int = 0
    unconditional: bool = False
    down: bool = False
    done: dict = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    lines: list = field(default_factory=list)

    def hits(self, every, number):
        return every and number % every == 0


class FaultProxy:
    """Proxy on a port of its own; one connection carries one request (the answers say ``Connection: close``)."""

    def __init__(self, host, port, faults):
        self._host, self._port, self.faults = host, port, faults
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def _run(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader, writer):
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not self.faults.down and await self._exchange(reader, writer):
                pass
        if self.faults.down:
            self.faults.done["reset"] += 1
            writer.transport.abort()
        writer.close()

    async def _exchange(self, reader, writer):
        """Pass on one request and its answer; return whether the connection stays."""
        head = await reader.readuntil(b"\r\n\r\n")
        if self.faults.down:
            return False
        faults, number = self.faults, next(self._numbers)
        faults.done["requests"] += 1
        faults.lines.append(head.partition(b"\r\n")[0].decode())
        body = await reader.readexactly(length_of(head)) if length_of(head) else b""
        if faults.unconditional:
            lines = head.split(b"\r\n")
            head = b"\r\n".join(one for one in lines if not one.lower().startswith((b"if-match:", b"if-none-match:")))
        await asyncio.sleep(faults.latency_s)
        if faults.hits(faults.refuse, number):
            faults.done["refused"] += 1
            writer.write(REFUSAL)
            await writer.drain()
            return False
        upstream, onward = await asyncio.open_connection(self._host, self._port)
        try:
            if body and faults.hits(faults.cut_request, number):
                faults.done["cut_request"] += 1
                onward.write(head + body[: len(body) // 2])
                await onward.drain()
                return False
            onward.write(head + body)
            await onward.drain()
            return await self._answer(upstream, writer, head, number)
        finally:
            onward.close()

    async def _answer(self, upstream, writer, request, number):
        answer = await upstream.readuntil(b"\r\n\r\n")
        bodyless = request.startswith(b"HEAD") or answer.split()[1] in (b"204", b"304")
        content = b"" if bodyless else await upstream.readexactly(length_of(answer))
        if self.faults.hits(self.faults.cut, number):
            self.faults.done["cut"] += 1
            writer.write(
                (answer + content)[: len(answer) // 2 if len(content) < 2 else len(answer) + len(content) // 2]
            )
            await writer.drain()
            return False
        await self._send(writer, answer, content, self.faults.hits(self.faults.slow, number))
        return b"connection: close" not in answer.lower()

    async def _send(self, writer, answer, content, slowly):
        if not content or not slowly:
            writer.write(answer + content)
            await writer.drain()
            return
        self.faults.done["slow"] += 1
        writer.write(answer)
        step = -(-len(content) // PIECES)
        for start in range(0, len(content), step):
            await asyncio.sleep(SLOW_S / PIECES)
            writer.write(content[start : start + step])
            await writer.drain()


def length_of(head):
    """Return the bytes of the body after a head."""
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
        assert not (name == b"transfer-encoding" and b"chunked" in value), head
    return 0
