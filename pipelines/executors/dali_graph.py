"""The DALI graph of the `dali` executor, and the numbers that it needs.

In: settings, a Plan. Out: a DALI pipeline, and its inputs by name. The inputs are whole arrays
[N, ...]: lists of N arrays take DALI 15 times as long. An axis-aligned sample is one `resize` with
a region of interest, whose ends are swapped for a flip. It equals the triangle filter of the Plan.
All other samples are resized to the reduced size and warped by `warp_perspective`.
`coord_transform` applies the color map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.decoding.dali import dali, survives_fork
from slipform.pipelines.decoding.device_decoder import decoder_options
from slipform.pipelines.executors.dali_border import paddings, whole_axis_gains
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.region import regions_needed, relative
from slipform.pipelines.rendering.request import Settings
from slipform.pipelines.rendering.taps import reduced_sizes

__all__ = ["build_graph", "by_share", "plan_inputs"]

_Inputs = dict[str, npt.NDArray[Any]]


def build_graph(settings: Settings, beton: Beton, jpeg: bool, share: float | None) -> Any:
    """Build the pipeline.

    Args:
        settings: The settings of the executor.
        beton: The stored images.
        jpeg: Whether they are JPEGs. Otherwise they are raw.
        share: The share of the JPEGs for the hardware decoder of a GPU. None: there is none.

    Returns:
        The pipeline. Its inputs are "images" (JPEGs uint8 [bytes], or uint8 [H, W, 3]) and those of
        `plan_inputs`; with a share between 0 and 1 also "hardware" (bool []), whether the hardware
        decodes a JPEG. Its output is float32 [N, S, S, 3].
    """
    fn, pipeline_def, types = dali()
    gpu = settings.device.type == "cuda"
    size, border = settings.spec.image_size, settings.spec.border

    height, width = (int(sides.max(initial=0)) for sides in (beton.heights, beton.widths))
    options = decoder_options(settings.batch_size, height, width)

    def decode(jpegs: Any, load: float) -> Any:
        return fn.decoders.image(
            jpegs, device="mixed", output_type=types.RGB, **(options | {"hw_decoder_load": load})
        )

    @pipeline_def(
        batch_size=settings.batch_size,
        num_threads=settings.threads,
        device_id=(settings.device.index or 0) if gpu else None,
        exec_dynamic=True,
        prefetch_queue_depth=settings.depth,
    )
    def graph() -> Any:
        def numbers(name: str, ndim: int, dtype: Any = types.FLOAT) -> Any:
            return fn.external_source(name=name, dtype=dtype, ndim=ndim)

        start, shape = numbers("start", 1, types.INT32), numbers("shape", 1, types.INT32)
        if jpeg:
            # The bytes are read from the mapped file.
            images = fn.external_source(name="images", dtype=types.UINT8, ndim=1, no_copy=True)
        else:
            # For a GPU they are copied to pinned memory.
            images = fn.external_source(
                name="images", dtype=types.UINT8, ndim=3, layout="HWC", no_copy=not gpu
            )
        if jpeg and not gpu:
            images = fn.decoders.image_slice(
                images, start, shape, axis_names="WH", output_type=types.RGB
            )
        else:
            # Decoding a region fails on some GPUs (nvImageCodec 0.9). The whole image is decoded
            # instead, and the region is cut out.
            if jpeg:
                images = by_share(images, 1.0 if share is None else share, decode)
            elif gpu:
                images = images.gpu()
            images = fn.slice(images, start, shape, axis_names="WH")
        triangle = {"interp_type": types.INTERP_LINEAR, "antialias": True, "dtype": types.FLOAT}
        # A black frame where the filter reads beyond the region. DALI would repeat the edge there;
        # in the Plan these pixels do not count.
        images = fn.slice(
            images, numbers("frame", 1, types.INT32), numbers("framed", 1, types.INT32),
            axis_names="WH", out_of_bounds_policy="pad", fill_values=0,
        )  # fmt: skip
        from_to = {"roi_start": numbers("from", 1), "roi_end": numbers("to", 1)}
        if settings.spec.axis_aligned:
            images = fn.resize(images, size=[size, size], **from_to, **triangle)
        else:
            images = fn.resize(images, size=numbers("reduced", 1), **from_to, **triangle)
            for axis, view in (("y", [-1, 1, 1]), ("x", [1, -1, 1])):
                gain, count = numbers(f"gain_{axis}", 1), numbers(f"count_{axis}", 1, types.INT32)
                gain = fn.slice(gain, start=[0], shape=count, axes=[0])
                images = images * fn.reshape(gain, shape=view)
            matrix = numbers("matrix", 2)
            images = fn.experimental.warp_perspective(
                images,
                matrix.gpu() if gpu else matrix,
                size=[size, size],
                inverse_map=True,
                pixel_origin="corner",
                interp_type=types.INTERP_LINEAR,
                **({"border_mode": "replicate"} if border == "edge" else {"fill_value": 0}),
            )
        return fn.coord_transform(images, M=numbers("mix", 2), T=numbers("offset", 1))

    pipeline = graph()
    pipeline.build()
    return survives_fork(pipeline)


def by_share(images: Any, share: float, decode: Callable[[Any, float], Any]) -> Any:
    """Decode a share of JPEGs by the hardware of a GPU, and the other ones by CUDA.

    Two decoders get the samples that the input "hardware" says. With one decoder, hw_decoder_load
    would give the first images of a batch to the hardware.

    Args:
        images: A node of a DALI graph.
        share: The share for the hardware, 0 to 1.
        decode: Makes a decoder of a node, with the given hw_decoder_load.
    """
    if share in (0.0, 1.0):
        return decode(images, share)
    fn, _, types = dali()
    hardware = fn.external_source(name="hardware", dtype=types.BOOL, ndim=0)
    with_hardware, with_cuda = fn._conditional.split(images, predicate=hardware)
    decoded = decode(with_hardware, 1.0), decode(with_cuda, 0.0)
    return fn._conditional.merge(*decoded, predicate=hardware)


def plan_inputs(
    plan: Plan, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]
) -> _Inputs:
    """Compute the inputs of the graph, without "images".

    Args:
        plan: The Plan of N samples.
        heights: int32 [N], heights of the stored images in pixels.
        widths: int32 [N], widths of the stored images in pixels.

    Returns:
        The inputs by name: arrays [N, ...].
    """
    regions = regions_needed(plan, heights, widths)
    shape = regions[:, 2:] - regions[:, :2]
    geometry, _ = relative(plan, regions[:, :2], shape[:, 1], shape[:, 0])
    inputs: _Inputs = {"start": regions[:, :2], "shape": shape}
    if plan.axis_aligned:
        start, step = geometry[:, [0, 1], 2], geometry[:, [0, 1], [0, 1]]
        count = np.full((len(plan), 2), plan.image_size)
    else:
        reduced = reduced_sizes(geometry, plan.image_size, shape[:, 1], shape[:, 0])
        count = reduced[:, ::-1].astype(np.int64)
        start, step = np.zeros((len(plan), 2), np.float32), (shape / count).astype(np.float32)
        scale = np.concatenate([1 / step, np.ones((len(plan), 1), np.float32)], axis=1)
        inputs |= {"reduced": reduced.astype(np.float32), "matrix": geometry * scale[:, :, None]}
        for axis, name in enumerate("xy"):
            inputs[f"count_{name}"] = count[:, axis, None].astype(np.int32)
            inputs[f"gain_{name}"] = whole_axis_gains(count[:, axis], shape[:, axis])
    frame = paddings(step)
    first = start + frame
    inputs |= {
        "frame": -frame,
        "framed": shape + 2 * frame,
        "from": first[:, ::-1].astype(np.float32),
        "to": (first + step * count)[:, ::-1].astype(np.float32),
        "mix": plan.color[:, :, :3],
        "offset": plan.color[:, :, 3],
    }
    return {name: np.ascontiguousarray(rows) for name, rows in inputs.items()}
