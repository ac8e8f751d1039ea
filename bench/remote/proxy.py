"""A proxy in front of an HTTP server on this machine: `Proxy` adds latency and faults, and counts.

In: the port of the server, latency, faults. Out: an address, and what was requested there. The
benchmark uses latency and counts; the tests also use faults.
"""

from __future__ import annotations

import http.client
import itertools
import re
import socket
import socketserver
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["KINDS", "Fault", "Proxy", "Request"]

KINDS = ("500", "503", "reset", "cut", "short", "wrong", "stall", "drip")
_STALL_SECONDS, _DRIP_SECONDS = 60.0, 0.1
# They differ from run to run.
_NAMES = re.compile(r"folder-\d+|prep-trial-[0-9a-f]+|uploadId=[^& ]+")
_NOT_PASSED_ON = ("expect", "transfer-encoding", "connection")
_NOT_PASSED_BACK = ("transfer-encoding", "connection", "content-length")


@dataclass(frozen=True)
class Fault:
    """A fault for some requests.

    Attributes:
        kind: "500", "503" or another number: an answer with that status, without a body. "reset":
            the connection is reset instead of an answer. "cut": half of the body, then the end of
            the connection. "short": half of the body, with a length that fits it. "wrong": one byte
            of the body is another one. "stall":
            no answer until the client leaves, at most 60 s. "drip": the answer comes one byte after
            another, so slowly that it does not end.
        match: Regular expression for "METHOD PATH RANGE": "GET .*train.beton bytes=.*".
        times: How often, for all requests together.
        after: So many matching requests are answered correctly before.
    """

    kind: str
    match: str = "."
    times: int = 1
    after: int = 0

    def __post_init__(self) -> None:
        assert self.kind in KINDS or self.kind.isdigit(), self.kind


@dataclass(frozen=True)
class Request:
    """A request that the proxy got.

    Attributes:
        method: "GET".
        path: The path and the query.
        bytes_range: The header Range: "bytes=0-99", or "".
        status: The status of the answer; 0: none was sent.
        num_bytes: The bytes of the body that were sent.
    """

    method: str
    path: str
    bytes_range: str = ""
    status: int = 0
    num_bytes: int = 0

    @property
    def text(self) -> str:
        """The text that faults match."""
        return f"{self.method} {self.path} {self.bytes_range}"


@dataclass(frozen=True)
class _Answer:
    status: int
    content: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()
    length: int = 0  # what the headers declare


@dataclass
class Proxy:
    """An HTTP proxy in front of a server. Its attributes may be changed at any time.

    Attributes:
        server: The port of the server on 127.0.0.1.
        latency: Seconds that each request waits.
        faults: The script. A request gets the first fault that fits it.
        chance: Kind of fault -> share of the requests that get it. They are drawn from `seed`, the
            request without the number of its `new_folder`, and how often it came: the order in
            which threads or tests ask has no effect.
        seed: For `chance`, and for the position of a wrong byte.
        requests: What was requested, in the order of the answers.
        down: True: connections are closed without an answer.
    """

    server: int
    latency: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    chance: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    requests: list[Request] = field(default_factory=list)
    down: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._matched: Counter[Fault] = Counter()
        self._seen: Counter[str] = Counter()
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self) -> None:
                with suppress(OSError, http.client.HTTPException):  # the client left
                    proxy._serve(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, block_on_close, request_queue_size = True, False, 128

        self._listener = Server(("127.0.0.1", 0), Handler)
        serve = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)
        try:
            serve.start()
        except BaseException:
            self._listener.server_close()
            raise

    @property
    def port(self) -> int:
        """The port of the proxy on 127.0.0.1."""
        return int(self._listener.server_address[1])

    @property
    def url(self) -> str:
        """The address of the proxy, for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def num_bytes(self) -> int:
        """The bytes of the bodies of all answers."""
        with self._lock:
            return sum(one.num_bytes for one in self.requests)

    def times(self, fault: Fault) -> int:
        """How many requests have fitted a fault of `faults`.

        Args:
            fault: The fault.
        """
        with self._lock:
            return self._matched[fault]

    def reset(self) -> None:
        """Forget requests, faults and latency. Requests under way are not noted afterwards."""
        with self._lock:
            self.requests = []
            self._matched.clear()
            self._seen.clear()
            self.faults, self.chance, self.latency, self.down = [], {}, 0.0, False

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown()
        self._listener.server_close()

    def _serve(self, handler: Any) -> None:
        """Answer the requests of one connection."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.server, timeout=60)
        try:
            while not self.down and (line := handler.rfile.readline(65536)):
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = http.client.parse_headers(handler.rfile)
                if headers.get("Expect"):
                    handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if headers.get("Transfer-Encoding", "").lower() == "chunked":
                    body = b"".join(_chunks(handler.rfile))
                else:
                    body = handler.rfile.read(int(headers.get("Content-Length", 0)))
                time.sleep(self.latency)
                asked = Request(method, path, headers.get("Range", ""))
                if not self._answer(handler, upstream, asked, headers, body):
                    return
        finally:
            upstream.close()

    def _answer(
        self, handler: Any, upstream: Any, asked: Request, headers: Any, body: bytes
    ) -> bool:
        """Answer one request. Returns whether the connection stays open."""
        noted = self.requests  # `reset` begins another list
        kind, number = self._fault(asked.text)
        if kind == "stall":
            handler.connection.settimeout(_STALL_SECONDS)
            with suppress(TimeoutError):
                handler.connection.recv(1)  # until the client leaves
        if kind in ("reset", "stall"):
            no_linger = struct.pack("ii", 1, 0)  # closing it sends a reset
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
            self._note(asked, noted)
            return False
        if kind.isdigit():
            answer = _Answer(int(kind))
        else:
            answer = self._spoiled(_asked(upstream, asked, headers, body), kind, asked, number)
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {it}" for name, it in answer.fields)]
        lines += [f"Content-Length: {answer.length}", "", ""]
        content = b"" if asked.method == "HEAD" else answer.content
        self._note(replace(asked, status=answer.status, num_bytes=len(content)), noted)
        sent = "\r\n".join(lines).encode("latin-1") + content
        if kind == "drip":
            for byte in sent[:-1]:
                handler.wfile.write(bytes([byte]))
                time.sleep(_DRIP_SECONDS)
            return False
        handler.wfile.write(sent)
        return kind != "cut"

    def _spoiled(self, answer: _Answer, kind: str, asked: Request, number: int) -> _Answer:
        if asked.method == "HEAD":
            return answer
        content = answer.content
        half = content[: len(content) // 2]
        if kind == "cut":
            return replace(answer, content=half)
        if kind == "short":
            return replace(answer, content=half, length=len(half))
        if kind == "wrong" and content:
            at = self._drawn(f"{asked.text} {number}") % len(content)
            wrong = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
            return replace(answer, content=wrong)
        return answer

    def _drawn(self, text: str) -> int:
        """A number below 2**32 for a request: the same one in every new folder and upload."""
        return zlib.crc32(f"{self.seed} {_NAMES.sub('', text)}".encode())

    def _fault(self, text: str) -> tuple[str, int]:
        """The kind of fault for a request, "" for none, and how often the same request came."""
        with self._lock:
            number = self._seen[text]
            self._seen[text] += 1
            for fault in self.faults:
                if re.search(fault.match, text):
                    self._matched[fault] += 1
                    if fault.after < self._matched[fault] <= fault.after + fault.times:
                        return fault.kind, number
            drawn = self._drawn(f"{number} {text}") / 2**32
            shares = itertools.accumulate(self.chance.values())
            kinds = (kind for kind, share in zip(self.chance, shares, strict=True) if drawn < share)
            return next(kinds, ""), number

    def _note(self, request: Request, noted: list[Request]) -> None:
        with self._lock:
            noted.append(request)


def _asked(upstream: Any, asked: Request, headers: Any, body: bytes) -> _Answer:
    """The answer of the server to a request."""
    upstream.putrequest(asked.method, asked.path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        if name.lower() not in _NOT_PASSED_ON:
            upstream.putheader(name, value)
    if body and not headers.get("Content-Length"):
        upstream.putheader("Content-Length", str(len(body)))
    upstream.endheaders(body)
    answer = upstream.getresponse()
    content = answer.read()
    length = answer.getheader("Content-Length") if asked.method == "HEAD" else None
    fields = [one for one in answer.getheaders() if one[0].lower() not in _NOT_PASSED_BACK]
    return _Answer(answer.status, content, tuple(fields), int(length or len(content)))


def _chunks(file: Any) -> Iterator[bytes]:
    """The body of a request with chunks."""
    while size := int(file.readline().split(b";")[0], 16):
        yield file.read(size)
        file.readline()
    while file.readline().strip():
        pass
