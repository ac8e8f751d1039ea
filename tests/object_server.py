"""A real S3 server (moto) as a process, and a proxy in front of it that makes faults.

In: latency and faults. Out: the address for AWS_ENDPOINT_URL, and what was requested. The fixture
`object_store` gives the one server of all tests.
"""

from __future__ import annotations

from slipform.bench.remote.proxy import KINDS, Fault, Request
from slipform.bench.remote.server import BUCKET, ENVIRONMENT, object_server
from slipform.bench.remote.server import ObjectServer as Proxy

__all__ = ["BUCKET", "ENVIRONMENT", "KINDS", "Fault", "Proxy", "Request", "object_server"]
