"""The `dali` executor: one DALI graph decodes, resizes, warps and maps colors.

It runs on a GPU (`mixed` decoding) or on CPU cores.

In: requests. Out: batches on the device, which torch gets without a copy. `dali_graph` builds the
graph, and `dali_border` corrects the edges. The calling thread does little for each image: it says
where the bytes are, and checks them in the first epoch.
"""

from __future__ import annotations

import io
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.dlpack import from_dlpack

from slipform.pipelines.beton import JPG, Beton
from slipform.pipelines.decoding.decoder import Decoder
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.jpeg_header import declare_at_least
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.executors.dali_border import erase_boxes, fill_outside, restore_edges
from slipform.pipelines.executors.dali_graph import build_graph, plan_inputs
from slipform.pipelines.plan.plan import Plan, draw
from slipform.pipelines.rendering.request import BatchRequest, Rendered, Settings

__all__ = ["DaliExecutor", "build"]


class _UnderWay(NamedTuple):
    request: BatchRequest
    plan: Plan
    bad: list[int]
    images: list[Any]  # they must be kept until they are decoded


class DaliExecutor(Executor):
    """See `Executor`. DALI itself works ahead: `depth` runs are scheduled at the same time.

    Args:
        beton: The stored images.
        settings: The settings of the executor.

    Raises:
        ConfigError: DALI does not support the settings, or the beton mixes JPEG and raw samples.
    """

    name = "dali"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        jpg = beton.modes == JPG
        if jpg.any() and not jpg.all():
            raise ConfigError(
                f'{beton.path} mixes JPEG and raw samples, which executor = "dali" cannot. Use'
                ' executor = "host".'
            )
        if not settings.spec.axis_aligned and settings.spec.border == "reflect":
            raise ConfigError(
                'executor = "dali" cannot warp with border = "reflect". Use executor = "host", or'
                ' border = "zero" or "edge".'
            )
        if not settings.spec.axis_aligned and settings.spec.corners == "black":
            raise ConfigError(
                'executor = "dali" cannot warp with corners = "black". Use executor = "host", or'
                ' corners = "image".'
            )
        self.depth = settings.depth
        self._beton, self._settings, self._jpg = beton, settings, bool(jpg.any())
        self._first_read = FirstRead(beton, settings.on_bad)
        self._broken: set[int] = set()  # samples that DALI could not decode
        self._graph = self._primed(build_graph(self._settings, self._beton, self._jpg))
        self._under_way: deque[_UnderWay] = deque()
        self._seconds = {"read_seconds": 0.0, "dali_wait_seconds": 0.0}

    def submit(self, request: BatchRequest) -> None:
        """See `Executor`."""
        began = time.perf_counter()
        bad = self._first_read.bad(request.indices)
        if self._jpg:
            headless = set(np.flatnonzero(~self._declared(request.indices)).tolist()) - set(bad)
            bad += self._first_read.undecodable(request.indices, sorted(headless))
        if self._broken:
            bad += np.flatnonzero(np.isin(request.indices, list(self._broken))).tolist()
        bad = sorted(set(bad))
        plan = request.plan()
        images = self._feed(self._graph, request.indices, plan, bad)
        self._under_way.append(_UnderWay(request, plan, bad, images))
        self._graph.schedule_run()
        self._seconds["read_seconds"] += time.perf_counter() - began

    def _primed(self, graph: Any) -> Any:
        """Run a graph `depth` times with one black image.

        DALI's first `schedule_run` starts `depth` runs at once, so that many inputs must be there.
        """
        if len(self._beton):
            first = np.zeros(1, np.int64)
            heights, widths = self._beton.heights[first], self._beton.widths[first]
            plan = draw(self._settings.spec, first, heights, widths, seed=0, epoch=0)
            for _ in range(self.depth):
                self._feed(graph, first, plan, [0])
            graph.schedule_run()
            for _ in range(self.depth):
                graph.outputs()
        return graph

    def _feed(
        self, graph: Any, indices: npt.NDArray[np.int64], plan: Plan, bad: list[int]
    ) -> list[Any]:
        """Give a batch to DALI. Returns its images, which must be kept until they are decoded."""
        data = self._beton.data
        heights, widths = self._beton.heights[indices], self._beton.widths[indices]
        starts, sizes = self._beton.offsets[indices].tolist(), self._beton.sizes[indices].tolist()
        images = [data[start : start + n] for start, n in zip(starts, sizes, strict=True)]
        if not self._jpg:
            shapes = zip(images, heights.tolist(), widths.tolist(), strict=True)
            images = [pixels.reshape(height, width, 3) for pixels, height, width in shapes]
        for i in bad:
            images[i] = _black(self._jpg, int(heights[i]), int(widths[i]))
        graph.feed_input("images", images)
        for name, rows in plan_inputs(plan, heights, widths).items():
            graph.feed_input(name, rows)
        return images

    def _declared(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the header of each JPEG declares the size that the beton says, or more."""
        beton = self._beton
        return declare_at_least(
            beton.data, beton.offsets[indices], beton.sizes[indices],
            beton.widths[indices], beton.heights[indices],
        )  # fmt: skip

    def collect(self) -> Rendered:
        """See `Executor`."""
        began = time.perf_counter()
        try:
            output = self._output()
        except RuntimeError as error:
            # The name of the operator. Errors of others are not caused by the images.
            if "decoders" not in str(error):
                raise
            self._recover(error)
            output = self._output()
        self._seconds["dali_wait_seconds"] += time.perf_counter() - began
        _, plan, bad, _ = self._under_way.popleft()
        images = from_dlpack(output.as_tensor())
        if plan.axis_aligned:
            images = fill_outside(restore_edges(images, plan), plan)
        images = images.to(self._settings.dtype)
        return Rendered(erase_boxes(images, plan).permute(0, 3, 1, 2), bad)

    def _output(self) -> Any:
        """The images of the next run.

        On a GPU they are bound to torch's stream: it waits until they are complete, and they are
        not freed before it has read them.
        """
        gpu = self._settings.device.type == "cuda"
        (images,) = self._graph.outputs(
            torch.cuda.current_stream(self._settings.device) if gpu else None
        )
        return images

    def _recover(self, error: Exception) -> None:
        """Find the undecodable image that ended the graph.

        If bad samples are skipped, build the graph again and submit the requests under way without
        the image.
        """
        found: set[int] = set()
        if self._jpg:
            for request, *_ in self._under_way:
                jpegs = [self._beton.bytes_of(i) for i in request.indices]
                whole = np.zeros((len(request), 4), np.int32)
                whole[:, 2] = self._beton.widths[request.indices]
                whole[:, 3] = self._beton.heights[request.indices]
                positions = list(Decoder(len(request)).decode(jpegs, whole).bad)
                found |= {
                    int(request.indices[i])
                    for i in self._first_read.undecodable(request.indices, positions)
                }
        if not found - self._broken:
            raise error
        self._broken |= found
        self._graph = self._primed(build_graph(self._settings, self._beton, self._jpg))
        requests = [request for request, *_ in self._under_way]
        self._under_way.clear()
        for request in requests:
            self.submit(request)

    def reset(self) -> None:
        """See `Executor`."""
        self._graph = None  # it must end before the arrays that it may still read
        self._under_way.clear()
        self._graph = self._primed(build_graph(self._settings, self._beton, self._jpg))

    def stats(self) -> dict[str, float]:
        """See `Executor`."""
        return dict(self._seconds)

    def close(self) -> None:
        """See `Executor`."""
        self._graph = None
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


def build(beton: Beton, settings: Settings) -> Executor:
    """Build the executor.

    Args:
        beton: The stored images.
        settings: The settings of the executor.
    """
    return DaliExecutor(beton, settings)
