"""Mutated files for the tests of readers: only a right result or a DatasetError is allowed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from slipform.pipelines.errors import DatasetError

BOUNDED = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """Change, insert or remove bytes, or truncate them."""

    def change(edits: list[tuple[int, int, bytes]], end: int) -> bytes:
        result = bytearray(data)
        for position, removed, added in edits:
            result[position : position + removed] = added
        return bytes(result[:end])

    # Half of the edits go to the first 200 bytes, where headers are.
    position = st.integers(0, min(200, len(data))) | st.integers(0, len(data))
    edit = st.tuples(position, st.integers(0, 4), st.binary(max_size=4))
    return st.builds(
        change, st.lists(edit, max_size=4), st.just(1 << 30) | st.integers(0, len(data))
    )


def checked_file(data: bytes, read: Callable[[Path], object], name: str) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            return read(path)
        except DatasetError as error:
            message = error.message
        assert name in message or folder in message
        return None
