"""What the `dali` executor gives to its graph and takes from it: `DaliFeed`.

In: requests, in one thread. Out: the outputs of the graph with their Plans. The work for each image
is small: finding its bytes, and a check in the first epoch. An undecodable image ends a graph. The
graph is then built again, and gets the requests under way without that image.
"""

from __future__ import annotations

import io
import time
from collections import deque
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import JPG
from slipform.pipelines.decoding.device_decoder import is_of_an_image, undecodable
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.jpeg_header import declare_at_least
from slipform.pipelines.decoding.share import in_share
from slipform.pipelines.executors.dali_graph import build_graph, plan_inputs
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.rendering.request import BatchRequest, Settings

__all__ = ["DaliFeed"]


# Decoded pixels of the images of one run on CPU cores. DALI holds several runs.
_BYTES_PER_RUN = 256 << 20


class _Fed(NamedTuple):
    request: BatchRequest
    plan: Plan
    bad: list[int]
    runs: int  # of the graph, for one batch
    images: list[Any]  # they must be kept until they are decoded


def _images_per_run(beton: Beton, settings: Settings) -> int:
    """The images in one run of the graph: a batch, or fewer if they are large, on CPU cores.

    DALI decodes all images of a run before it resizes them.
    """
    if settings.device.type == "cuda" or not len(beton):
        return settings.batch_size
    mean = float(np.mean(beton.heights.astype(np.int64) * beton.widths)) * 3
    return max(1, min(settings.batch_size, int(_BYTES_PER_RUN / mean)))


class DaliFeed:
    """A graph with its inputs and outputs, in order. Only one thread at a time may use it.

    Args:
        beton: The stored images, all JPEG or all raw.
        settings: The settings of the executor.

    Attributes:
        decoder_share: The share of the JPEGs that the hardware decoder of a GPU gets. None: there
            is none.
        seconds: Seconds of work since the start: {"read_seconds": ..., "feed_seconds": ...,
            "dali_wait_seconds": ...}. "feed_seconds" is the processor time of "read_seconds".
    """

    def __init__(self, beton: Beton, settings: Settings) -> None:
        self._beton, self._settings = beton, settings
        self._jpg = bool((beton.modes == JPG).any())
        self.decoder_share: float | None = None
        if self._jpg and settings.device.type == "cuda":
            share = settings.decoder_share
            self.decoder_share = 1.0 if share is None else share
        self._first_read = FirstRead(beton, settings.on_bad)
        self._broken: set[int] = set()  # samples that DALI could not decode
        self._per_run = _images_per_run(beton, settings)
        self._depth_in_runs = settings.depth * -(-settings.batch_size // self._per_run)
        self.graph = self._new_graph()
        self._under_way: deque[_Fed] = deque()
        self.seconds = dict.fromkeys(("read_seconds", "feed_seconds", "dali_wait_seconds"), 0.0)

    def feed(self, request: BatchRequest) -> None:
        """Give a request to the graph, which begins to work on it.

        Args:
            request: The batch to make.

        Raises:
            SampleError: on_bad is "error" and a sample cannot be read.
        """
        began, processor = time.perf_counter(), time.thread_time()
        bad = self._first_read.bad(request.indices)
        if self._jpg:
            headless = set(np.flatnonzero(~self._declared(request.indices)).tolist())
            bad += self._first_read.undecodable(request.indices, sorted(headless - {*bad}))
        if self._broken:
            bad += np.flatnonzero(np.isin(request.indices, list(self._broken))).tolist()
        bad = sorted(set(bad))
        plan = request.plan()
        parts = [slice(at, at + self._per_run) for at in range(0, len(request), self._per_run)]
        images = []
        for part in parts:
            own = [i - part.start for i in bad if part.start <= i < part.stop]
            images.append(self._put(self.graph, request.indices[part], plan.part(part), own))
            self.graph.schedule_run()
        self._under_way.append(_Fed(request, plan, bad, len(parts), images))
        self.seconds["read_seconds"] += time.perf_counter() - began
        self.seconds["feed_seconds"] += time.thread_time() - processor

    def take(self, stream: Any) -> tuple[list[Any], Plan, list[int]]:
        """Wait for the oldest request.

        Args:
            stream: The CUDA stream to which the outputs are bound: it waits until the images are
                complete, and they are not freed before it has read them. None: on a CPU.

        Returns:
            The output of each run of the graph, the Plan, and the positions of bad samples.

        Raises:
            SampleError: on_bad is "error" and a sample cannot be decoded.
        """
        began = time.perf_counter()
        try:
            outputs = self._outputs(stream)
        except RuntimeError as error:
            if not is_of_an_image(error):
                raise
            self._recover(error)
            outputs = self._outputs(stream)
        self.seconds["dali_wait_seconds"] += time.perf_counter() - began
        fed = self._under_way.popleft()
        return outputs, fed.plan, fed.bad

    def _outputs(self, stream: Any) -> list[Any]:
        return [self.graph.outputs(stream)[0] for _ in range(self._under_way[0].runs)]

    def _new_graph(self) -> Any:
        """Build the graph and run it `_depth_in_runs` times with one black image, the smallest.

        DALI's first `schedule_run` starts so many runs at once: their inputs must be there.
        """
        settings = replace(self._settings, batch_size=self._per_run, depth=self._depth_in_runs)
        graph = build_graph(settings, self._beton, self._jpg, self.decoder_share)
        if len(self._beton):
            sizes = self._beton.heights.astype(np.int64) * self._beton.widths
            first = np.array([np.argmin(sizes)])
            heights, widths = self._beton.shapes.of(first)
            plan = draw(self._settings.spec, first, heights, widths, seed=0, epoch=0)
            for _ in range(self._depth_in_runs):
                self._put(graph, first, plan, [0])
            graph.schedule_run()
            for _ in range(self._depth_in_runs):
                graph.outputs()
        return graph

    def _put(
        self, graph: Any, indices: npt.NDArray[np.int64], plan: Plan, bad: list[int]
    ) -> list[Any]:
        """Give a batch to DALI. Returns its images, which must be kept until they are decoded."""
        heights, widths = self._beton.shapes.of(indices)
        sizes = self._beton.sizes[indices]
        data, starts = self._beton.data, self._beton.offsets[indices]
        images: list[Any] = [
            data[start : start + size]
            for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
        ]
        if not self._jpg:
            shapes = zip(images, heights.tolist(), widths.tolist(), strict=True)
            images = [pixels.reshape(height, width, 3) for pixels, height, width in shapes]
        for i in bad:
            images[i] = _black(self._jpg, int(heights[i]), int(widths[i]))
        graph.feed_input("images", images)
        inputs = plan_inputs(plan, heights, widths)
        if self.decoder_share is not None and 0 < self.decoder_share < 1:
            inputs["hardware"] = in_share(indices, self.decoder_share)
        for name, rows in inputs.items():
            graph.feed_input(name, rows)
        return images

    def _declared(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the header of each JPEG declares the size that the beton says, or more."""
        beton = self._beton
        starts, sizes = beton.offsets[indices], beton.sizes[indices]
        heights, widths = beton.shapes.of(indices)
        return declare_at_least(beton.data, starts, sizes, widths, heights)

    def _recover(self, error: Exception) -> None:
        """Find the undecodable image that ended the graph.

        If bad samples are skipped, build the graph again and feed the requests under way without
        the image.
        """
        found: set[int] = set()
        requests = [fed.request for fed in self._under_way]
        for request in requests if self._jpg else ():
            at = request.indices
            jpegs = [self._beton.bytes_of(i) for i in at]
            positions = undecodable(jpegs, *self._beton.shapes.of(at))
            found |= {int(at[i]) for i in self._first_read.undecodable(at, positions)}
        if not found - self._broken:
            raise error
        self._broken |= found
        self.graph = self._new_graph()
        self._under_way.clear()
        for request in requests:
            self.feed(request)

    def reset(self) -> None:
        """Drop all requests under way, and build the graph again."""
        self.close()
        self.graph = self._new_graph()

    def close(self) -> None:
        """Drop all requests under way, and free the graph."""
        self.graph = None  # it must end before the arrays that it may still read
        self._under_way.clear()


def _black(jpg: bool, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A black image of the size of a damaged sample, as a JPEG or as pixels."""
    pixels = np.zeros((height, width, 3), np.uint8)
    if not jpg:
        return pixels
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return np.frombuffer(buffer.getvalue(), np.uint8)
