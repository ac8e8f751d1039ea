"""The interface of executors: the `Executor` protocol.

In: `BatchRequest`s. Out: `Rendered` batches, in the same order.

To add an executor, add one file to this folder. The name of the file is the name of the executor:
lower case, no underscore. The file defines

    def build(beton: Beton, settings: Settings) -> Executor

A file with an underscore in its name is a part of an executor, such as `dali_graph`. The name of an
executor that needs a GPU is also in `GPU_ONLY`.
`BatchRequest`, `Rendered` and `Settings` are in `slipform.pipelines.rendering.request`. The tests
in tests/pipelines/executors run every executor.
"""

from __future__ import annotations

from typing import Protocol

from slipform.pipelines.rendering.request import BatchRequest, Rendered

__all__ = ["Executor"]


class Executor(Protocol):
    """Makes the pixels of batches in the background.

    At most `depth` requests are under way. One thread calls `submit`, and another one the other
    methods. They call `reset` and `close` only while no `submit` runs. An executor that keeps
    decoded pixels in memory also has `resident_bytes`, their number. An executor that calls
    `BatchRequest.check` in its own threads has `checks_files = True`. For others, the caller of
    `collect` checks the files.

    Attributes:
        name: Name of the executor.
        depth: Number of requests that the caller may submit before it collects one.
    """

    name: str
    depth: int

    def submit(self, request: BatchRequest) -> None:
        """Begin a request and return at once.

        Args:
            request: The batch to make.

        Raises:
            SampleError: on_bad is "error" and a sample cannot be read.
        """

    def collect(self) -> Rendered:
        """Wait for the oldest request.

        Returns:
            Its images. With `Settings.reuse_buffers` they are valid until the next `collect`.

        Raises:
            SampleError: on_bad is "error" and a sample cannot be read.
        """

    def reset(self) -> None:
        """Drop all requests under way and return to the state after construction.

        This works after an exception in `submit`, `collect` or `reset`.
        """

    def stats(self) -> dict[str, float]:
        """The seconds of work since the start, by stage: {"decode_seconds": ..., ...}."""

    def close(self) -> None:
        """Drop all requests under way, end the threads and free the memory.

        A second call does nothing.
        """
