"""A real S3 server (moto) as a process, and a proxy in front of it that makes faults.

In: latency and faults. Out: the address for AWS_ENDPOINT_URL, and what was requested. The fixture
`object_store` gives the one server of all tests.
"""

from __future__ import annotations

import threading

from slipform.bench.remote.proxy import KINDS, Fault, Request
from slipform.bench.remote.server import BUCKET, ENVIRONMENT, object_server
from slipform.bench.remote.server import ObjectServer as Proxy
from slipform.pipelines.unclosed import THREAD

__all__ = [
    "BUCKET", "ENVIRONMENT", "KINDS", "Fault", "Proxy", "Request", "end_requests", "object_server",
]  # fmt: skip

# Threads that ask the server, and those that close loaders.
_NAMES = (THREAD, *(f"slipform-{name}" for name in ("fetch", "part", "request", "together")))


def end_requests() -> None:
    """Wait for the requests whose results nobody waits for. Their threads then end.

    Threads of a loader that is open, as after a test that failed, end after their present tasks.
    """
    threads = [one for one in threading.enumerate() if one.name.startswith(_NAMES)]
    for thread in threads:
        for tasks in getattr(thread, "_args", ()):  # those of `Workers` wait for further tasks
            tasks.put(None)
    for thread in threads:
        thread.join()
