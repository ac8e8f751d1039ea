"""The S3 server: what is open if it does not answer."""

from __future__ import annotations

import http.client

import pytest

from slipform.bench.remote import server

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
