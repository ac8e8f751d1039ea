"""A real S3 server on this machine, moto's, with a `Proxy` in front of it.

In: nothing. Out: the proxy, and the environment for clients. The server is a process of its own,
keeps all objects in memory, and accepts any credentials.
"""

from __future__ import annotations

import http.client
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

from slipform.bench.remote.proxy import Proxy

__all__ = ["BUCKET", "ENVIRONMENT", "ObjectServer", "object_server"]

BUCKET = "slipform-bucket"
# What clients need besides the address. The loopback address is never asked through a web proxy.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "any-key",
    "AWS_SECRET_ACCESS_KEY": "any-secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}
_SERVER = """
import logging, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
logging.disable(logging.CRITICAL)
WSGIRequestHandler.protocol_version = "HTTP/1.1"
app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""  # it ends with the process that started it


class ObjectServer(Proxy):
    """A proxy in front of an S3 server with one bucket, `BUCKET`. `object_server` starts both."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folders = itertools.count(1)

    def new_folder(self) -> str:
        """The URL of an empty folder in the bucket. Each call returns another one."""
        return f"s3://{BUCKET}/folder-{next(self._folders)}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for clients: address and credentials."""
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.url}


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """Start a server and a proxy. Both end after the block.

    Yields:
        The proxy.

    Raises:
        ImportError: moto is not installed.
    """
    command = [sys.executable, "-P", "-c", _SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            if not (line := process.stdout.readline()):
                raise ImportError('the S3 server did not start: pip install "slipform[readers]"')
            server = int(line)
            with closing(
                http.client.HTTPConnection("127.0.0.1", server, timeout=120)
            ) as connection:
                connection.request("PUT", f"/{BUCKET}")
                assert connection.getresponse().read() is not None
            proxy = ObjectServer(server)
            try:
                yield proxy
            finally:
                proxy.close()
        finally:
            process.kill()
