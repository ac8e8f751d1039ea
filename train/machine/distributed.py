"""One process of a run, or of several started by torchrun.

In: the environment that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK). Out: a `Process`: which one
this is, its device, and the few things that processes do together. With one process all of them
cost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from slipform.pipelines.errors import ConfigError, SlipformError


@dataclass(frozen=True)
class Process:
    """rank of world_size; device: where this process computes."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and prints."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def agreement(self) -> Agreement:
        """All must ask for it at the same place."""
        if self.world_size == 1:
            return Agreement(None)
        group = dist.new_group(backend="gloo")
        assert isinstance(group, dist.ProcessGroup)
        return Agreement(group)

    def all_gather(self, value: Any) -> list[Any]:
        """Every process' value, by rank, on every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's value, on every process."""
        return self.all_gather(value)[0]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Rank 0's values go to all, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


class Agreement:
    """Whether any process has a request, asked at every step without waiting for the device or for
    a slower process: with several of them the answer is the one to the step before, which has long
    been there. Messages go through the hosts' memory (gloo)."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self._asked: tuple[Tensor, dist.Work] | None = None

    def any(self, request: bool) -> bool:
        """The same answer on every process; all must ask equally often."""
        if self._group is None:
            return request
        before = self._asked
        number = torch.tensor(int(request))
        work = dist.all_reduce(number, group=self._group, async_op=True)
        assert work is not None
        self._asked = number, work
        if before is None:
            return False
        before[1].wait()
        return bool(before[0] > 0)


@contextmanager
def join(device: str) -> Iterator[Process]:
    """This process among those that torchrun started, or alone. device: "auto", "cpu", "cuda",
    "cuda:1".

    An error of the others' connection becomes a SlipformError that says what to do.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = pick_device(device, int(os.environ["LOCAL_RANK"]) if world_size > 1 else 0)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world_size == 1:
        yield Process(chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Process(chosen, dist.get_rank(), world_size)
    except (dist.DistBackendError, dist.DistNetworkError, RuntimeError) as error:
        if not _lost_peer(error):
            raise
        raise SlipformError(
            f"process {dist.get_rank()} of {world_size} lost the others: one of them has died"
            f" ({str(error).splitlines()[0]}). Look at its own messages; then go on with --resume,"
            " with as many processes as you like."
        ) from error
    finally:
        dist.destroy_process_group()


def _lost_peer(error: Exception) -> bool:
    """gloo has no class of its own for it: it raises RuntimeError with the words of its
    transport."""
    words = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "gloo",
        "Timed out waiting",
    )
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def pick_device(name: str, local_rank: int) -> torch.device:
    """The device of that name; "auto" and "cuda" are the GPU of this process' place on its node,
    where there is one."""
    has_gpu = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if has_gpu else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f'--device {name}: give "auto", "cpu", "cuda" or "cuda:N"') from None
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ConfigError(f'--device {name}: this program runs on "cpu" and "cuda"')
    if not has_gpu:
        raise ConfigError(
            f"--device {name}: torch sees no NVIDIA GPU here. Leave it out to train on the CPU."
        )
    index = local_rank if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {name}: there are {torch.cuda.device_count()} GPUs here, numbered from 0"
        )
    return torch.device("cuda", index)
