"""Measurements of `bench gpu` with Slipform's pipelines: draw and render kernels, JPEG decoding.

In: arguments that can be pickled; each function runs in its own process. Out: `Measured` values.
The images are generated; no dataset is needed.
"""

from __future__ import annotations

import time
from typing import Any

from slipform.bench.race.gpu import REPEATS, Measured, is_installed, seconds_of
from slipform.bench.race.measure import estimate
from slipform.bench.race.worker import NotPossible
from slipform.bench.result.result import Estimate, Settings
from slipform.pipelines.machine import num_cores

__all__ = ["SPECS", "jpeg", "kernels"]

SPECS: dict[str, dict[str, Any]] = {
    "random_resized": {"crop": "random_resized", "flip": "horizontal"},
    "moved": {"crop": "random", "resize": 0, "flip": "horizontal"},
    "squeezed": {"crop": "none"},
    "reduced": {"crop": "random_resized", "scale": [0.9, 1.0], "image_size": 112},
    "warp": {"rotation": 20.0, "zoom": [0.8, 1.2]},
}


def kernels(
    device: str,
    batch_size: int = 1024,
    image_size: int = 224,
    stored: int = 256,
    copied: int = 2**30,
    repeats: int = REPEATS,
) -> list[Measured]:
    """Measure the kernels that draw and render a batch of resident images.

    The time of a render kernel is compared with a lower limit: the time that the memory needs to
    read the stored pixels once and to write the batch.

    Args:
        device: The GPU.
        batch_size: Images in the batch.
        image_size: The side of the output images, in pixels; their dtype is bfloat16.
        stored: The side of the stored images, in pixels.
        copied: The number of bytes of the copy that measures the rate of the memory.
        repeats: The number of measurements of each kernel.
    """
    import numpy as np
    import torch

    from slipform.pipelines.plan.augmentation import Augmentation
    from slipform.pipelines.plan.device import DevicePlan
    from slipform.pipelines.rendering.launch import launch

    count = 2 * batch_size
    pixels = torch.randint(0, 256, (count * stored**2 * 3,), dtype=torch.uint8, device=device)
    offsets = torch.arange(count, device=device) * (stored**2 * 3)
    sizes = torch.full((count, 2), stored, dtype=torch.int32, device=device)
    rows = torch.arange(batch_size, device=device)
    sides = np.full(count, stored, np.int32)
    source = torch.empty(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = seconds_of(lambda: target.copy_(source), device, repeats)
    found = []
    for name, options in SPECS.items():
        spec = Augmentation(normalize="imagenet", **({"image_size": image_size} | options))
        spec = spec.resolved([], [])
        size = spec.image_size
        plan = DevicePlan(
            spec,
            sides,
            sides,
            np.zeros(count, np.int64),
            seed=0,
            batch_size=batch_size,
            device=torch.device(device),
        )
        for epoch in (0, 1):
            plan.set_order(epoch, np.random.default_rng(epoch).permutation(count))
        out = torch.empty(batch_size, size, size, 3, dtype=torch.bfloat16, device=device)

        def render(plan: Any = plan, spec: Any = spec, out: Any = out) -> None:
            launch(spec, (pixels, offsets, sizes), plan.indices, rows, plan.numbers, out)

        draw_seconds = seconds_of(plan.draw, device, repeats)
        render_seconds = seconds_of(render, device, repeats)
        traffic = batch_size * (stored**2 * 3 + size**2 * 6)
        floor = copy.median * traffic / (2 * source.numel())
        found.append(
            Measured(
                name,
                {
                    "draw_seconds": draw_seconds,
                    "render_seconds": render_seconds,
                    "floor_seconds": estimate([floor]),
                    "floor_ratio": Estimate(
                        median=floor / render_seconds.median,
                        low=floor / render_seconds.high,
                        high=floor / render_seconds.low,
                        repeats=render_seconds.repeats,
                    ),
                },
                {"batch_size": batch_size, "image_size": size, "stored": stored},
            )
        )
    return found


def jpeg(device: str, count: int = 256) -> list[Measured]:
    """Measure DALI's JPEG decoder with several values of hw_decoder_load.

    That is the share of the images that the hardware decoder gets. The values 0 and 1 show whether
    there is a hardware decoder: without one, DALI decodes 1 on CPU cores.

    Args:
        device: The GPU.
        count: Images in a batch, 500 x 375 px with 4:2:0 chroma.

    Raises:
        NotPossible: DALI is not installed.
    """
    import torch

    if not is_installed("nvidia.dali"):
        raise NotPossible("DALI is not installed")
    from nvidia.dali import fn, pipeline_def, types

    images = _jpegs(count)
    threads = max(1, num_cores() - 2)
    found = []
    for load in (0.0, 0.5, 0.65, 0.8, 1.0):

        @pipeline_def(
            batch_size=count,
            num_threads=threads,
            device_id=torch.device(device).index or 0,
            exec_dynamic=True,
            prefetch_queue_depth=3,
        )
        def graph(load: float = load) -> Any:
            return fn.decoders.image(
                fn.external_source(name="images", dtype=types.UINT8, ndim=1, no_copy=True),
                device="mixed",
                output_type=types.RGB,
                hw_decoder_load=load,
                jpeg_fancy_upsampling=True,
                preallocate_width_hint=500,
                preallocate_height_hint=375,
            )

        pipeline = graph()
        pipeline.build()
        for _ in range(3):
            pipeline.feed_input("images", images)
        pipeline.schedule_run()

        def batch(pipeline: Any = pipeline) -> None:
            pipeline.outputs(torch.cuda.current_stream())
            pipeline.feed_input("images", images)
            pipeline.schedule_run()

        for _ in range(5):
            batch()
        rates = []
        for _ in range(7):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(8):
                batch()
            torch.cuda.synchronize()
            rates.append(8 * count / (time.perf_counter() - began))
        settings: Settings = {"hw_decoder_load": load, "threads": threads}
        found.append(Measured(f"load {load}", {"images_per_second": estimate(rates)}, settings))
    return found


def _jpegs(count: int) -> list[Any]:
    """Encoded images with the properties of photographs: smooth, with some noise."""
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    found = []
    for _ in range(min(count, 32)):
        coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        found.append(encoded.reshape(-1))
    return (found * -(-count // len(found)))[:count]
