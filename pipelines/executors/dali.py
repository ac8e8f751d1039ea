"""The `dali` executor: one DALI graph decodes, resizes, warps and colors; on a GPU (`mixed`
decoding) or on CPU cores.

In: jobs. Out: batches on the device, handed to torch without a copy. The Plan's numbers are
arguments of DALI's operators: an axis-aligned sample is one `resize` with a region of interest (its
ends swapped for a flip), which equals the Plan's triangle filter; anything else is `resize` to the
reduced size and `warp_perspective`; the color map is `coord_transform`.
"""

from __future__ import annotations

import io
import time
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.dlpack import from_dlpack

from slipform.pipelines.beton import JPG, Beton
from slipform.pipelines.decoding.decoder import Decoder
from slipform.pipelines.decoding.integrity import FirstRead
from slipform.pipelines.decoding.jpeg_header import declares_at_least
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors.contract import BatchRequest, Rendered, Settings
from slipform.pipelines.executors.dali_border import (
    erase_boxes,
    fill_outside,
    lost_weight,
    paddings,
    restore_edges,
)
from slipform.pipelines.plan.plan import draw
from slipform.pipelines.rendering.region import regions_needed, relative
from slipform.pipelines.rendering.taps import reduced_size


class DaliExecutor:
    """See `Executor`. DALI works ahead by itself: `depth` runs are scheduled, one is collected."""

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
        self.depth = settings.depth
        self._beton, self._settings, self._jpg = beton, settings, bool(jpg.any())
        self._first_read = FirstRead(beton, settings.on_bad)
        self._broken: set[int] = set()  # samples that DALI could not decode
        self._graph = self._primed(self._build())
        self._jobs: deque[tuple[BatchRequest, list[int]]] = deque()
        self._seconds = {"read_seconds": 0.0, "dali_wait_seconds": 0.0}

    def _build(self) -> Any:
        from nvidia.dali import fn, pipeline_def, types

        s = self._settings
        gpu = s.device.type == "cuda"
        size, border = s.spec.image_size, s.spec.border

        @pipeline_def(
            batch_size=s.batch_size,
            num_threads=s.threads,
            device_id=(s.device.index or 0) if gpu else None,
            exec_dynamic=True,
            prefetch_queue_depth=s.depth,
        )
        def graph() -> Any:
            def numbers(name: str, ndim: int, dtype: Any = types.FLOAT) -> Any:
                return fn.external_source(name=name, dtype=dtype, ndim=ndim)

            start, shape = numbers("start", 1, types.INT32), numbers("shape", 1, types.INT32)
            if not self._jpg:
                images = fn.external_source(name="images", dtype=types.UINT8, ndim=3, layout="HWC")
                images = images.gpu() if gpu else images
                images = fn.slice(images, start, shape, axis_names="WH")
            elif gpu:
                # Region-of-interest decoding fails on some GPUs (nvImageCodec 0.9): decode whole,
                # then cut.
                jpegs = fn.external_source(name="images", dtype=types.UINT8, ndim=1)
                images = fn.decoders.image(jpegs, device="mixed", output_type=types.RGB)
                images = fn.slice(images, start, shape, axis_names="WH")
            else:
                jpegs = fn.external_source(name="images", dtype=types.UINT8, ndim=1)
                images = fn.decoders.image_slice(
                    jpegs, start, shape, axis_names="WH", output_type=types.RGB
                )
            triangle = {"interp_type": types.INTERP_LINEAR, "antialias": True, "dtype": types.FLOAT}
            # Black about the region, where the filter reads beyond it: DALI would repeat the edge,
            # the Plan leaves it out.
            images = fn.slice(
                images, numbers("frame", 1, types.INT32), numbers("framed", 1, types.INT32),
                axis_names="WH", out_of_bounds_policy="pad", fill_values=0,
            )  # fmt: skip
            from_to = {"roi_start": numbers("from", 1), "roi_end": numbers("to", 1)}
            if s.spec.axis_aligned:
                images = fn.resize(images, size=[size, size], **from_to, **triangle)
            else:
                images = fn.resize(images, size=numbers("reduced", 1), **from_to, **triangle)
                images = images * numbers("gain_y", 3) * numbers("gain_x", 3)
                images = fn.experimental.warp_perspective(
                    images,
                    numbers("matrix", 2).gpu() if gpu else numbers("matrix", 2),
                    size=[size, size],
                    inverse_map=True,
                    pixel_origin="corner",
                    interp_type=types.INTERP_LINEAR,
                    **({"border_mode": "replicate"} if border == "edge" else {"fill_value": 0}),
                )
            return fn.coord_transform(images, M=numbers("mix", 2), T=numbers("offset", 1))

        pipeline = graph()
        pipeline.build()
        return pipeline

    def submit(self, job: BatchRequest) -> None:
        began = time.perf_counter()
        bad = self._first_read.bad(job.indices)
        if self._jpg:
            beton = self._beton
            sides = zip(
                job.indices, beton.widths[job.indices], beton.heights[job.indices], strict=True
            )
            headless = [
                i
                for i, (index, width, height) in enumerate(sides)
                if not declares_at_least(beton.bytes_of(index), width, height)
            ]
            bad += self._first_read.undecodable(job.indices, [i for i in headless if i not in bad])
        bad = sorted(
            {*bad, *(i for i, index in enumerate(job.indices) if int(index) in self._broken)}
        )
        self._jobs.append((job, bad))
        self._feed(self._graph, job, bad)
        self._graph.schedule_run()
        self._seconds["read_seconds"] += time.perf_counter() - began

    def _primed(self, graph: Any) -> Any:
        """DALI's first `schedule_run` starts `depth` runs at once: give it as many, each of one
        black image."""
        if len(self._beton):
            first = np.zeros(1, np.int64)
            plan = draw(
                self._settings.spec,
                first,
                self._beton.heights[first],
                self._beton.widths[first],
                0,
                0,
            )
            for _ in range(self.depth):
                self._feed(graph, BatchRequest(first, plan), [0])
            graph.schedule_run()
            for _ in range(self.depth):
                graph.outputs()
        return graph

    def _feed(self, graph: Any, job: BatchRequest, bad: list[int]) -> None:
        beton, plan = self._beton, job.plan

        def feed(name: str, rows: npt.NDArray[Any]) -> None:
            graph.feed_input(name, list(np.ascontiguousarray(rows)))

        heights, widths = beton.heights[job.indices].copy(), beton.widths[job.indices].copy()
        images = [beton.bytes_of(i) if self._jpg else beton.raw(i) for i in job.indices]
        for i in bad:
            images[i] = _black(self._jpg, int(heights[i]), int(widths[i]))
        graph.feed_input("images", images)
        regions = regions_needed(plan, heights, widths)
        shape = regions[:, 2:] - regions[:, :2]
        feed("start", regions[:, :2])
        feed("shape", shape)
        geometry, _ = relative(plan, regions[:, :2], shape[:, 1], shape[:, 0])
        if plan.axis_aligned:
            start, step, count = (
                geometry[:, [0, 1], 2],
                geometry[:, [0, 1], [0, 1]],
                np.full((len(plan), 2), plan.image_size),
            )
        else:
            reduced = [
                reduced_size(geometry[i], plan.image_size, shape[i, 1], shape[i, 0])
                for i in range(len(plan))
            ]
            count = np.array(reduced)[:, ::-1]
            start, step = np.zeros((len(plan), 2), np.float32), (shape / count).astype(np.float32)
            scale = np.concatenate([1 / step, np.ones((len(plan), 1), np.float32)], axis=1)
            feed("reduced", np.array(reduced, np.float32))
            feed("matrix", geometry * scale[:, :, None])
            for axis, name, view in ((0, "gain_x", (1, -1, 1)), (1, "gain_y", (-1, 1, 1))):
                gains = [
                    _gains(int(n), int(end))
                    for n, end in zip(count[:, axis], shape[:, axis], strict=True)
                ]
                graph.feed_input(name, [gain.reshape(view) for gain in gains])
        frame = paddings(step)
        feed("frame", -frame)
        feed("framed", shape + 2 * frame)
        first = start + frame
        feed("from", first[:, ::-1].astype(np.float32))
        feed("to", (first + step * count)[:, ::-1].astype(np.float32))
        feed("mix", plan.color[:, :, :3])
        feed("offset", plan.color[:, :, 3])

    def collect(self) -> Rendered:
        began = time.perf_counter()
        try:
            output = self._output()
        except (RuntimeError, IndexError, ValueError) as error:
            self._recover(error)
            output = self._output()
        self._seconds["dali_wait_seconds"] += time.perf_counter() - began
        job, bad = self._jobs.popleft()
        images = from_dlpack(output.as_tensor())
        if job.plan.axis_aligned:
            images = fill_outside(restore_edges(images, job.plan), job.plan)
        images = images.to(self._settings.dtype)
        return Rendered(erase_boxes(images, job.plan).permute(0, 3, 1, 2), bad)

    def _output(self) -> Any:
        """The next run's images; on a GPU bound to torch's stream: not read early there, nor freed
        while it still reads."""
        gpu = self._settings.device.type == "cuda"
        (images,) = self._graph.outputs(
            torch.cuda.current_stream(self._settings.device) if gpu else None
        )
        return images

    def _recover(self, error: Exception) -> None:
        """An undecodable image ended the graph: name it, or build the graph anew and run what was
        under way without it."""
        found: set[int] = set()
        if self._jpg:
            for job, _ in self._jobs:
                jpegs = [self._beton.bytes_of(i) for i in job.indices]
                whole = np.zeros((len(job), 4), np.int32)
                whole[:, 2], whole[:, 3] = (
                    self._beton.widths[job.indices],
                    self._beton.heights[job.indices],
                )
                positions = list(Decoder(len(job)).decode(jpegs, whole).bad)
                found |= {
                    int(job.indices[i])
                    for i in self._first_read.undecodable(job.indices, positions)
                }
        if not found - self._broken:
            raise error
        self._broken |= found
        self._graph = self._primed(self._build())
        jobs = [job for job, _ in self._jobs]
        self._jobs.clear()
        for job in jobs:
            self.submit(job)

    def reset(self) -> None:
        self._jobs.clear()
        self._graph = self._primed(self._build())

    def stats(self) -> dict[str, float]:
        return dict(self._seconds)

    def close(self) -> None:
        self._jobs.clear()
        self._graph = None


def _gains(count: int, length: int) -> npt.NDArray[np.float32]:
    """float32 [count]: `lost_weight` of a whole axis of `length` pixels resized to `count`."""
    step = np.full(count, length / count)
    return lost_weight((np.arange(count) + 0.5) * step, step, 0 * step, 0 * step + length).astype(
        np.float32
    )


def _black(jpg: bool, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A stand-in for a damaged sample, of its size."""
    pixels = np.zeros((height, width, 3), np.uint8)
    if not jpg:
        return pixels
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return np.frombuffer(buffer.getvalue(), np.uint8)
