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
from dataclasses import replace
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


# Decoded pixels of the images of one run on CPU cores. DALI holds several runs.
_BYTES_PER_RUN = 256 << 20


class _UnderWay(NamedTuple):
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


class DaliExecutor(Executor):
    """See `Executor`. DALI itself works ahead: the runs of `depth` batches are scheduled together.

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
        self._per_run = _images_per_run(beton, settings)
        self._depth_in_runs = self.depth * -(-settings.batch_size // self._per_run)
        self._graph = self._primed(self._built())
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
        parts = [slice(at, at + self._per_run) for at in range(0, len(request), self._per_run)]
        images = []
        for part in parts:
            own = [i - part.start for i in bad if part.start <= i < part.stop]
            images.append(self._feed(self._graph, request.indices[part], plan.part(part), own))
            self._graph.schedule_run()
        self._under_way.append(_UnderWay(request, plan, bad, len(parts), images))
        self._seconds["read_seconds"] += time.perf_counter() - began

    def _built(self) -> Any:
        return build_graph(
            replace(self._settings, batch_size=self._per_run, depth=self._depth_in_runs),
            self._beton,
            self._jpg,
        )

    def _primed(self, graph: Any) -> Any:
        """Run a graph `_depth_in_runs` times with one black image, the smallest one.

        DALI's first `schedule_run` starts so many runs at once: their inputs must be there.
        """
        if len(self._beton):
            sizes = self._beton.heights.astype(np.int64) * self._beton.widths
            first = np.array([np.argmin(sizes)])
            heights, widths = self._beton.heights[first], self._beton.widths[first]
            plan = draw(self._settings.spec, first, heights, widths, seed=0, epoch=0)
            for _ in range(self._depth_in_runs):
                self._feed(graph, first, plan, [0])
            graph.schedule_run()
            for _ in range(self._depth_in_runs):
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
            outputs = self._outputs()
        except RuntimeError as error:
            # The name of the operator. Errors of others are not caused by the images.
            if "decoders" not in str(error):
                raise
            self._recover(error)
            outputs = self._outputs()
        self._seconds["dali_wait_seconds"] += time.perf_counter() - began
        _, plan, bad, *_ = self._under_way.popleft()
        parts = [from_dlpack(output.as_tensor()) for output in outputs]
        images = parts[0] if len(parts) == 1 else torch.cat(parts)
        if plan.axis_aligned:
            images = fill_outside(restore_edges(images, plan), plan)
        images = images.to(self._settings.dtype)
        return Rendered(erase_boxes(images, plan).permute(0, 3, 1, 2), bad)

    def _outputs(self) -> list[Any]:
        """The images of the oldest batch, of each of its runs.

        On a GPU they are bound to torch's stream: it waits until they are complete, and they are
        not freed before it has read them.
        """
        gpu = self._settings.device.type == "cuda"
        stream = torch.cuda.current_stream(self._settings.device) if gpu else None
        return [self._graph.outputs(stream)[0] for _ in range(self._under_way[0].runs)]

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
        self._graph = self._primed(self._built())
        requests = [request for request, *_ in self._under_way]
        self._under_way.clear()
        for request in requests:
            self.submit(request)

    def reset(self) -> None:
        """See `Executor`."""
        self._graph = None  # it must end before the arrays that it may still read
        self._under_way.clear()
        self._graph = self._primed(self._built())

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
