"""An HTTP server that keeps what it is told, and a program that knows no HTTP."""

import json
import socket
from contextlib import contextmanager
from threading import Thread

from tests.support.http import Handler, serving


@contextmanager
def webhook(answers=()):
    """Give its address and a list of what it was told; it answers with the given codes first, and then with 204."""
    told, codes = [], list(answers)

    class Webhook(Handler):
        def post(self):
            told.append(json.loads(self.body()))
            self.answer(codes.pop(0) if codes else 204)

    with serving(Webhook) as url:
        yield f"{url}/secret-token", told


@contextmanager
def other_program(says=b"SSH-2.0-OpenSSH_9.6\r\n"):
    """Give the port of a program that says the same to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(says)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
