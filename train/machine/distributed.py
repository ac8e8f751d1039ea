"""The processes of a run: a single one, or several that torchrun started.

In: the environment that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK). Out: a `Process`: its rank,
its device, and the collective operations, which do nothing for a single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.train.machine.rendezvous import fresh_store

__all__ = ["Agreement", "Process", "Requests", "join", "pick_device", "restarts"]


class Requests(NamedTuple):
    """What a process asks of all processes after a step.

    Attributes:
        stop: Write a checkpoint, and end the run.
        save: Write a checkpoint.
    """

    stop: bool = False
    save: bool = False


@dataclass(frozen=True)
class Process:
    """One process of a run. All processes must call the collective operations in the same order.

    Attributes:
        device: The device of the process.
        rank: The number of the process, from 0.
        world_size: The number of processes.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place, and return it.

        Args:
            tensor: A tensor on the device of this process, with the same shape on all processes.
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
        """The values of all processes, in the order of their ranks.

        Args:
            value: The value of this process; any object that can be pickled.
        """
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """The value of rank 0.

        Args:
            value: Any object that can be pickled; ignored on other ranks.
        """
        return self.all_gather(value)[0]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copy the tensors of rank 0 to all processes, in place.

        Args:
            tensors: Tensors, with the same number and shapes on every process.
        """
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


class Agreement:
    """Tells all processes at every step what any of them requests.

    It waits neither for the device nor for a slower process: with several processes the answer is
    that of the step before. The messages use the memory of the hosts (gloo), not of the GPUs.

    Args:
        group: A gloo group of all processes; None for one process.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self._asked: tuple[Tensor, dist.Work] | None = None

    def any(self, requests: Requests) -> Requests:
        """The requests that a process had; the answer is the same on every process.

        All processes must call this the same number of times.

        Args:
            requests: Those of this process.
        """
        if self._group is None:
            return requests
        before = self._asked
        numbers = torch.tensor(requests, dtype=torch.int64)
        work = dist.all_reduce(numbers, group=self._group, async_op=True)
        assert work is not None
        self._asked = numbers, work
        if before is None:
            return Requests()
        before[1].wait()
        return Requests(*(before[0] > 0).tolist())

    def now(self, requests: Requests) -> Requests:
        """The requests that a process has now; the answer is the same on every process.

        It waits for the slowest process. All processes must call this the same number of times.

        Args:
            requests: Those of this process.
        """
        if self._group is None:
            return requests
        numbers = torch.tensor(requests, dtype=torch.int64)
        dist.all_reduce(numbers, group=self._group)
        return Requests(*(numbers > 0).tolist())


def restarts() -> bool:
    """Whether torchrun runs this command again after a failure (--max-restarts)."""
    names = ("TORCHELASTIC_MAX_RESTARTS", "TORCHELASTIC_RESTART_COUNT")
    return any(os.environ.get(name, "0") != "0" for name in names)


@contextmanager
def join(device: str) -> Iterator[Process]:
    """Join the process group if torchrun started this process, and leave it at the end.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".

    Yields:
        This process.

    Raises:
        ConfigError: There is no such device.
        SlipformError: The connection to another process was lost.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = pick_device(device, int(os.environ["LOCAL_RANK"]) if world_size > 1 else 0)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world_size == 1:
        yield Process(chosen)
        return
    rank = int(os.environ["RANK"])
    try:
        dist.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo",
            store=fresh_store(rank, world_size),
            rank=rank,
            world_size=world_size,
        )
        yield Process(chosen, rank, world_size)
    except (dist.DistBackendError, dist.DistNetworkError, RuntimeError) as error:
        if not _lost_peer(error):
            raise
        raise SlipformError(
            f"process {rank} of {world_size} lost the others: one of them has died"
            f" ({str(error).splitlines()[0]}). Read the messages of that one, then continue with"
            " --resume and any number of processes."
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _lost_peer(error: Exception) -> bool:
    """Whether the connection was lost. gloo raises a RuntimeError with one of these texts."""
    words = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "gloo",
        "Timed out waiting",
    )
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def pick_device(name: str, local_rank: int) -> torch.device:
    """The torch device for a name.

    Args:
        name: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        local_rank: The number of the process on its node, which is also the number of the GPU for
            "auto" and "cuda".

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
        raise ConfigError(f'--device {name}: Slipform runs on "cpu" and "cuda"')
    if not has_gpu:
        raise ConfigError(
            f"--device {name}: torch finds no NVIDIA GPU. Remove the option to train on the CPU."
        )
    index = local_rank if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {name}: there are {torch.cuda.device_count()} GPUs here, numbered from 0"
        )
    return torch.device("cuda", index)
