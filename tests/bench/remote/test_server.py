"""The S3 server and its proxy: what is open if they cannot start."""

from __future__ import annotations

import http.client
import socketserver
import threading
from typing import Any

import pytest

from slipform.bench.remote import server
from slipform.bench.remote.proxy import Proxy

_NO_HTTP = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.recv(1)
connection.sendall(b"no HTTP\\r\\n")
sys.stdin.read()
"""


def test_the_connection_to_a_server_that_answers_wrongly_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[http.client.HTTPConnection] = []

    class Kept(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            made.append(self)

    monkeypatch.setattr(http.client, "HTTPConnection", Kept)
    monkeypatch.setattr(server, "_SERVER", _NO_HTTP)
    with pytest.raises(http.client.BadStatusLine), server.object_server():
        pass
    (connection,) = made
    assert connection.sock is None


def test_a_proxy_without_a_thread_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socketserver.TCPServer] = []

    class Kept(socketserver.ThreadingTCPServer):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(socketserver, "ThreadingTCPServer", Kept)
    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="new thread"):
        Proxy(1)
    (listener,) = made
    assert listener.fileno() == -1
