"""One process of a run, or of several started by torchrun.

In: the environment that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK). Out: a `Process`: its rank,
its device, and the collective operations. With one process these do nothing.
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

__all__ = ["Agreement", "Process", "join", "pick_device"]


@dataclass(frozen=True)
class Process:
    """One process of a run. All processes must call the collective operations in the same order.

    Args:
        device: Where it computes.
        rank: Its number, from 0.
        world_size: The number of processes.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and prints."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place.

        Args:
            tensor: On this process' device, of one shape on all processes.

        Returns:
            The tensor.
        """
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def agreement(self) -> Agreement:
        """A new `Agreement` among all processes."""
        if self.world_size == 1:
            return Agreement(None)
        group = dist.new_group(backend="gloo")
        assert isinstance(group, dist.ProcessGroup)
        return Agreement(group)

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank.

        Args:
            value: Anything that pickle takes.
        """
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """The value of rank 0.

        Args:
            value: Anything that pickle takes; ignored on other ranks.
        """
        return self.all_gather(value)[0]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy the tensors of rank 0 to all processes, in place.

        Args:
            tensors: As many, of the same shapes, on every process.
        """
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


class Agreement:
    """Whether any process has a request, asked at every step.

    Nothing waits for the device or for a slower process: with several processes the answer is that
    of the step before. Messages go through the memory of the hosts (gloo).

    Args:
        group: A gloo group of all processes; None for one process.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self._asked: tuple[Tensor, dist.Work] | None = None

    def any(self, request: bool) -> bool:
        """Whether a process had a request; the answer is the same on every process.

        All processes must call it equally often.

        Args:
            request: Whether this process has one.
        """
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
    """Join the processes that torchrun started, if any, and leave them at the end.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".

    Yields:
        This process.

    Raises:
        ConfigError: There is no such device.
        SlipformError: The connection to another process is lost.
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
    """Whether the connection is lost: gloo raises a plain RuntimeError with its own words."""
    words = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "gloo",
        "Timed out waiting",
    )
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def pick_device(name: str, local_rank: int) -> torch.device:
    """The device of a name.

    Args:
        name: "auto", "cpu", "cuda" or "cuda:N". "auto" is the CPU where there is no GPU.
        local_rank: The process' number on its node: the GPU that "auto" and "cuda" take.

    Raises:
        ConfigError: There is no such device.
    """
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
