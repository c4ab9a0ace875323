"""The server and its socket; what it answers: test_app.py."""

import socket

import pytest

from flows.vetting.guard import Doors
from flows.vetting.server import listen, make_server
from schemas.errors import Misconfigured, Retryable


def test_the_server_says_nothing_of_itself_nor_of_who_asks():
    async def app(*_):
        pass

    config = make_server(app, Doors("127.0.0.1", 1, "token", ("localhost",))).config
    assert config.app is not app  # but its guard
    assert (config.access_log, config.log_level) == (False, "warning")
    assert (config.server_header, config.date_header, config.proxy_headers) == (False, False, False)
    assert (config.ws, config.lifespan, config.timeout_graceful_shutdown) == ("none", "off", 3)


def test_port_0_is_any_that_is_free_and_one_that_is_taken_is_named():
    with listen("127.0.0.1", 0) as first:
        host, port = first.getsockname()
        assert (host, port > 0, first.type) == ("127.0.0.1", True, socket.SOCK_STREAM)
        with pytest.raises(Retryable, match=f"--port {port}"):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(Misconfigured, match=r"--host 192\.0\.2\.1"):
        listen("192.0.2.1", 0)
