"""The `dali` executor: one DALI graph decodes, resizes, warps and maps colors.

It runs on a GPU (`mixed` decoding) or on CPU cores.

In: requests. Out: batches on the device. `dali_graph` builds the graph, `dali_feed` gives it the
samples, and `dali_border` corrects the edges. One thread does all of it, because a graph is not
safe to use from several threads. The calling thread only hands out the batches.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import JPG
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.executors.dali_border import erase_boxes, fill_outside, restore_edges
from slipform.pipelines.executors.dali_feed import DaliFeed
from slipform.pipelines.plan.plan import Plan
from slipform.pipelines.rendering.request import BatchRequest, Rendered, Settings
from slipform.pipelines.rendering.ring import OutputRing
from slipform.pipelines.workers import Task, Workers

__all__ = ["DaliExecutor", "build"]


class _Made(NamedTuple):
    """A batch from the graph: a slot of the ring on a GPU, or its images on a CPU."""

    slot: int
    images: Tensor | None
    num_images: int
    bad: list[int]


class DaliExecutor(Executor):
    """See `Executor`. The runs of `settings.depth` batches are scheduled together.

    On a GPU one more request can be under way: before it is given to the graph, the oldest batch is
    taken from it. The consumer thus does not wait until the graph has the next request.

    Args:
        beton: The stored images.
        settings: The settings of the executor.

    Attributes:
        decoder_share: The share of the JPEGs that the hardware decoder of a GPU gets. None: there
            is none.

    Raises:
        ConfigError: DALI does not support the settings, or the beton mixes JPEG and raw samples.
    """

    name = "dali"

    def __init__(self, beton: Beton, settings: Settings) -> None:
        jpg = beton.modes == JPG
        if jpg.any() and not jpg.all():
            raise ConfigError(
                f'{beton.path} mixes JPEG and raw samples, which executor = "dali" cannot. Use'
                ' executor = "host", or "stream" on a GPU.'
            )
        if settings.spec.beyond_dali:
            others = (
                '"resident" on a CPU'
                if settings.spec.on_cores
                else '"resident", or "stream" on a GPU'
            )
            raise ConfigError(
                f'executor = "dali" cannot do {settings.spec.beyond_dali}. Use executor ='
                f' "host", or {others}.'
            )
        for value, name in ((settings.spec.border, "reflect"), (settings.spec.corners, "black")):
            if not settings.spec.axis_aligned and value == name:
                setting = "border" if name == "reflect" else "corners"
                raise ConfigError(
                    f'executor = "dali" cannot warp with {setting} = "{name}". Use executor ='
                    f' "host", or "stream" on a GPU, or another {setting}.'
                )
        gpu = settings.device.type == "cuda"
        self.depth = settings.depth + 1 if gpu else settings.depth
        self._settings = settings
        self._feed = DaliFeed(beton, settings)
        self.decoder_share = self._feed.decoder_share
        self._ring = OutputRing(settings, 2) if gpu else None
        self._under_way: deque[Task[_Made]] = deque()
        self._fed: deque[Task[_Made]] = deque()  # in the graph; only the thread changes it
        self._thread = Workers(1, "slipform-dali")
        if gpu:
            # Otherwise the thread would open a context on GPU 0, which takes 300 to 500 MB.
            index = settings.device.index
            index = torch.cuda.current_device() if index is None else index
            self._thread.on_every_thread(partial(torch.cuda.set_device, index))

    def submit(self, request: BatchRequest) -> None:
        """See `Executor`."""
        batch = Task(self._make)
        self._under_way.append(batch)
        self._thread.submit(partial(self._feed_one, request, batch))

    def _feed_one(self, request: BatchRequest, batch: Task[_Made]) -> None:
        if len(self._fed) == self._settings.depth:
            self._fed.popleft().run()
        try:
            self._feed.feed(request)
        except BaseException as error:
            batch.fail(error)
        else:
            self._fed.append(batch)
        finally:
            del self, request, batch  # see `workers`

    def collect(self) -> Rendered:
        """See `Executor`."""
        batch = self._under_way[0]
        self._thread.submit(partial(self._make_until, batch))
        made = batch.result()
        self._under_way.popleft()
        if self._ring is not None:
            return Rendered(self._ring.hand_out(made.slot, made.num_images), made.bad)
        assert made.images is not None
        return Rendered(made.images, made.bad)

    def _make_until(self, batch: Task[_Made]) -> None:
        while batch in self._fed:
            self._fed.popleft().run()

    def _make(self) -> _Made:
        """Take the next batch from the graph. On a GPU its copy to the ring is enqueued."""
        if self._ring is None:
            outputs, plan, bad = self._feed.take(None)
            images = self._corrected(outputs, plan).to(self._settings.dtype)
            return _Made(0, images.permute(0, 3, 1, 2), len(plan), bad)
        outputs, plan, bad = self._feed.take(self._ring.stream)
        slot = self._ring.take()
        with self._ring.fill(slot) as out:
            # The outputs are freed when the stream has done this copy: they are bound to it.
            out[: len(plan)].copy_(self._corrected(outputs, plan))
        return _Made(slot, None, len(plan), bad)

    @staticmethod
    def _corrected(outputs: list[Any], plan: Plan) -> Tensor:
        parts = [from_dlpack(output.as_tensor()) for output in outputs]
        images = parts[0] if len(parts) == 1 else torch.cat(parts)
        if plan.axis_aligned:
            images = fill_outside(restore_edges(images, plan), plan)
        return erase_boxes(images, plan)

    def reset(self) -> None:
        """See `Executor`."""
        self._thread.drop()
        self._thread.settle()
        self._under_way.clear()
        self._fed.clear()
        self._feed.reset()
        if self._ring is not None:
            self._ring.reset()

    def stats(self) -> dict[str, float]:
        """See `Executor`."""
        return dict(self._feed.seconds)

    def close(self) -> None:
        """See `Executor`."""
        self._thread.close()
        self._under_way.clear()
        self._fed.clear()
        self._feed.close()
        if self._ring is not None:
            self._ring.close()


def build(beton: Beton, settings: Settings) -> Executor:
    """Build the executor.

    Args:
        beton: The stored images.
        settings: The settings of the executor.
    """
    return DaliExecutor(beton, settings)
