"""A model of CUDA graphs on a CPU: it records operations and replays them on the same memory.

Like a real graph, it freezes numbers of the host, shapes, and which tensors are read and written.
It refuses to read a tensor on the host. Recording does not change memory that was allocated before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal")


class Recording(TorchDispatchMode):
    """Recorded operations, in order, with their tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.tape: list[Callable[[], None]] = []
        self.new: dict[int, Tensor] = {}  # memory that was allocated while recording
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # older memory, and its copy

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        name = func._schema.name.removeprefix("aten::")
        # The schema of this operator does not say that it writes the running statistics.
        mutates = func._schema.is_mutable or name == "native_batch_norm"
        if mutates:
            for tensor in tensors:
                self._keep(tensor)
        assert name not in READS, f"{func} waits for the device"
        result = func(*args, **kwargs)
        known = {_memory(tensor) for tensor in tensors}
        fresh = [
            (k, leaf)
            for k, leaf in enumerate(tree_leaves(result))
            if isinstance(leaf, Tensor) and _memory(leaf) not in known
        ]
        for _, tensor in fresh:
            self.new[_memory(tensor)] = tensor
        if fresh or mutates:  # otherwise it is a view of existing memory

            def replay() -> None:
                again = tree_leaves(func(*args, **kwargs))
                for k, tensor in fresh:
                    tensor.detach().copy_(again[k].detach())

            self.tape.append(replay)
        return result

    def _keep(self, tensor: Tensor) -> None:
        memory = _memory(tensor)
        if memory not in self.new and memory not in self.before:
            whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
            self.before[memory] = whole, whole.clone()


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class RecordedGraphs:
    """Replaces `CudaGraphs`. `kernels`: modules and names of Triton kernels that are also recorded.
    The interpreter runs them."""

    def __init__(self, *kernels: tuple[Any, str]) -> None:
        self.captures = self.replays = 0
        self._recording: Recording | None = None
        for module, name in kernels:
            setattr(module, name, _Kernel(self, getattr(module, name)))

    def eagerly(self, work: Callable[[], None]) -> None:
        work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        self._recording = recording = Recording()
        with recording:
            work()
        self._recording = None
        with torch.no_grad():
            for whole, copy in recording.before.values():
                whole.copy_(copy)

        def replay() -> None:
            self.replays += 1
            with torch.no_grad():
                for one in recording.tape:
                    one()

        return replay

    def launch(self, call: Callable[[], None]) -> None:
        """Launch a kernel, or record it."""
        if self._recording is None:
            call()
        else:
            self._recording.tape.append(call)


class _Kernel:
    def __init__(self, graphs: RecordedGraphs, kernel: Any) -> None:
        self._graphs, self._kernel = graphs, kernel

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: self._graphs.launch(
            lambda: self._kernel[grid](*args, **kwargs)
        )
