"""The `host` executor: streaming on CPU cores. JPEGs are decoded (only the region needed) by DALI, raw pixels are read
where they lie in the mapped beton, and `render` does the rest.

In: jobs. Out: batches on the device, through pinned memory where that is a GPU.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.beton import JPG, RAW, Beton
from pipelines.errors import SampleError
from pipelines.executors.decode import Decoder
from pipelines.executors.job import Job, Rendered
from pipelines.executors.pool import Pictures, RenderPool
from pipelines.plan import Plan

Int32 = npt.NDArray[np.int32]


class HostExecutor:
    """See `Executor`. One thread decodes batch after batch, `threads` render; both at once."""

    name = "host"

    def __init__(
        self,
        beton: Beton,
        *,
        batch_size: int,
        image_size: int,
        dtype: torch.dtype,
        device: torch.device,
        threads: int,
        depth: int = 2,
        on_bad: str = "error",
    ) -> None:
        self.depth = depth
        self._beton, self._skip_bad = beton, on_bad == "skip"
        self._pool = RenderPool(
            batch_size=batch_size, image_size=image_size, dtype=dtype, device=device, threads=threads, depth=depth
        )
        self._decoder = Decoder(batch_size, threads) if (beton.modes == JPG).any() else None
        self._coordinator = ThreadPoolExecutor(1, thread_name_prefix="slipform-decode")
        self._jobs: deque[Future[tuple[Callable[[], Tensor], list[int]]]] = deque()
        self._checked = np.zeros(len(beton), bool)
        self._seconds = {"read_seconds": 0.0, "decode_seconds": 0.0}

    def submit(self, job: Job) -> None:
        self._jobs.append(self._coordinator.submit(self._begin, job))

    def collect(self) -> Rendered:
        wait, bad = self._jobs.popleft().result()
        return Rendered(wait(), bad)

    def stats(self) -> dict[str, float]:
        return {**self._seconds, "augment_seconds": self._pool.seconds}

    def close(self) -> None:
        self._coordinator.shutdown(wait=True, cancel_futures=True)
        self._pool.close()
        self._jobs.clear()

    def _begin(self, job: Job) -> tuple[Callable[[], Tensor], list[int]]:
        began = time.perf_counter()
        bad = self._check(job.indices)
        read = time.perf_counter()
        pictures, undecodable = self._pictures(job)
        self._seconds["read_seconds"] += read - began
        self._seconds["decode_seconds"] += time.perf_counter() - read
        return self._pool.start(pictures, job.plan), sorted({*bad, *undecodable})

    def _check(self, indices: npt.NDArray[np.int64]) -> list[int]:
        """Compare each sample's CRC-32 when it is first met. Positions of the bad ones; raises where they are not to be skipped."""
        bad = []
        for i in np.flatnonzero(~self._checked[indices]):
            try:
                self._beton.check_crc32(int(indices[i]))
                self._checked[indices[i]] = True
            except SampleError:
                if not self._skip_bad:
                    raise
                bad.append(int(i))
        return bad

    def _pictures(self, job: Job) -> tuple[Pictures, list[int]]:
        beton, indices = self._beton, job.indices
        raw = beton.modes[indices] == RAW
        base = beton.data.ctypes.data
        stored = Pictures(
            base + beton.offsets[indices],
            beton.heights[indices],
            beton.widths[indices],
            np.zeros((len(indices), 2), np.int32),
            beton,
        )
        if raw.all():
            return stored, []
        assert self._decoder is not None
        at = np.flatnonzero(~raw)
        regions = regions_needed(job.plan, beton.heights[indices], beton.widths[indices])[at]
        decoded, undecodable = self._decoder.decode([beton.bytes_of(i) for i in indices[at]], regions)
        bad = [int(at[k]) for k in undecodable]
        if bad and not self._skip_bad:
            raise undecodable_error(beton, int(indices[bad[0]]))
        if len(at) == len(indices):
            return decoded, bad
        for name in ("addresses", "heights", "widths", "origin"):
            getattr(stored, name)[at] = getattr(decoded, name)
        return Pictures(stored.addresses, stored.heights, stored.widths, stored.origin, (stored, decoded)), bad


def undecodable_error(beton: Beton, index: int) -> SampleError:
    return SampleError(
        f"sample {index} (class {beton.labels[index]}) of {beton.path} cannot be decoded. Run: prep verify {beton.path.parent}",
        index,
        int(beton.labels[index]),
    )


def regions_needed(plan: Plan, heights: Int32, widths: Int32) -> Int32:
    """int32 [N, 4] (x0, y0, x1, y1): the stored pixels that a sample's output can depend on, at least one."""
    whole = np.stack([np.zeros_like(widths), np.zeros_like(heights), widths, heights], axis=1).astype(np.int32)
    if not plan.axis_aligned or plan.border != "zero":
        return whole
    regions = plan.clip.copy()
    for axis in range(2):
        step = plan.geometry[:, axis, axis].astype(np.float64)
        start = plan.geometry[:, axis, 2].astype(np.float64)
        end = start + step * plan.image_size
        margin = np.maximum(1.0, np.abs(step)) + 1.0  # the triangle's half-width, and one for rounding
        low, high = plan.clip[:, axis], plan.clip[:, axis + 2]
        regions[:, axis] = np.clip(np.floor(np.minimum(start, end) - margin), low, high - 1)
        regions[:, axis + 2] = np.clip(np.ceil(np.maximum(start, end) + margin), regions[:, axis] + 1, high)
    return regions
