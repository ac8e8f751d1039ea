"""Trial steps of a run: `Variant`, settings of the steps, and `Trial`, a model for them.

In: a configuration and the shape of its data. Out: the seconds of single steps. The trial model is
the run's net with its optimizer, on random images, with a learning rate of 0: its weights stay
finite. Its memory is freed at the end.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from slipform.pipelines.batch import Batch, SyntheticLoader
from slipform.pipelines.machine import device_key
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.project import project
from slipform.train.config.run_config import RunConfig
from slipform.train.config.sections import Compile, Precision, TrainConfig
from slipform.train.machine.device import has_bfloat16, pick_compile, pick_precision
from slipform.train.machine.distributed import Process
from slipform.train.step.build import build_state, make_functions
from slipform.train.step.optim import set_learning_rate
from slipform.train.step.step import set_train_mode, train_step, zero_gradients

__all__ = ["Trial", "Variant", "profile_key", "usual", "variants"]


@dataclass(frozen=True)
class Variant:
    """Three settings of [train] without "auto".

    Attributes:
        precision: The setting train.precision.
        channels_last: The setting train.channels_last.
        compile: The setting train.compile.
    """

    precision: Precision
    channels_last: bool
    compile: Compile

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        compiled = {"off": "", "on": ", compiled", "graphs": ", CUDA graphs"}[self.compile]
        return f"{self.precision}, {layout}{compiled}"

    def applied(self, config: RunConfig) -> RunConfig:
        """A configuration with these settings.

        Args:
            config: The configuration to change.
        """
        for name in ("precision", "channels_last", "compile"):
            config = config.replace(f"train.{name}", getattr(self, name))
        return config


def usual(train: TrainConfig, device: torch.device) -> Variant:
    """The settings for "auto" without a measurement.

    On a GPU: bfloat16 if it has that, compiled. On a CPU: float32, not compiled.

    Args:
        train: The settings; those that are not "auto" are kept.
        device: The device of the run.
    """
    dtype = pick_precision(train.precision, device)
    names: dict[torch.dtype, Precision] = {
        torch.float32: "fp32",
        torch.bfloat16: "bf16",
        torch.float16: "fp16",
    }
    compiled: Compile = train.compile
    if compiled == "auto":
        compiled = "on" if pick_compile("auto", device) else "off"
    return Variant(names[dtype], train.channels_last is not False, compiled)


def variants(train: TrainConfig, device: torch.device, *, compile_too: bool) -> list[Variant]:
    """The variants to try, the usual one first.

    Args:
        train: The settings; only those that are "auto" vary.
        device: The device of the run. bfloat16 is left out if torch has no kernels for it on the
            device: the emulation has a twentieth of the speed.
        compile_too: Also vary train.compile, which takes half a minute for each net.
    """
    first = usual(train, device)
    precisions: list[Precision] = [first.precision]
    if train.precision == "auto":
        precisions += ["fp32"] if first.precision == "bf16" else []
        precisions += ["bf16"] if first.precision == "fp32" and has_bfloat16(device) else []
    layouts = [first.channels_last]
    if train.channels_last == "auto":
        layouts.append(not first.channels_last)
    compiled: list[Compile] = [first.compile]
    if train.compile == "auto" and compile_too:
        compiled.append("off" if first.compile == "on" else "on")
    return [Variant(*one) for one in itertools.product(precisions, layouts, compiled)]


def profile_key(config: RunConfig, manifest: Manifest, process: Process) -> str:
    """The key of a decision in the profile: machine, versions, net, shape.

    Args:
        config: The configuration of the run.
        manifest: The manifest of the dataset; only its number of classes is used.
        process: The device, and the number of processes.
    """
    train, model = config.train, asdict(config.model)
    for name in ("weights", "init"):
        model.pop(name, None)
    details = [
        model, manifest.num_classes, config.optimizer.name, config.loss.name, train.accumulate,
        train.ema > 0, train.clip_norm > 0, train.deterministic, train.tf32, train.precision,
        train.channels_last, train.compile, torch.get_num_threads(),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(details, default=str).encode()).hexdigest()[:8]
    device = str(process.device)
    return (
        f"{device_key(device)}; torch {torch.__version__}; slipform {project().version};"
        f" {config.model.name} ({digest}); {config.augment.image_size} px; batch"
        f" {train.batch_size}; {process.world_size} process{'es' if process.world_size > 1 else ''}"
    )


class Trial:
    """A model for trial steps. Use it in a `with` statement.

    Args:
        config: The configuration of the run; train.batch_size is a number.
        manifest: The manifest of the dataset; its number of classes is used.
        process: This process; no other process takes part.

    Attributes:
        batch_size: Images in a step.
    """

    def __init__(self, config: RunConfig, manifest: Manifest, process: Process) -> None:
        self._process = Process(process.device)
        self._config = config.unweighted().replace("model.weights", "none")
        self._classes = manifest.num_classes
        start = usual(config.train, process.device)
        self._state = build_state(
            start.applied(self._config), num_classes=self._classes, process=self._process
        )
        set_train_mode(self._state)
        set_learning_rate(self._state.optimizers, 0.0)
        self._functions = {start: self._state.functions}
        self._channels_last = start.channels_last
        assert isinstance(config.train.batch_size, int)
        self.batch_size = config.train.batch_size
        self._batches: dict[torch.dtype, Batch] = {}

    def set_batch_size(self, size: int) -> None:
        """Set the batch size of the next steps.

        Args:
            size: Images in a step.
        """
        self.batch_size = size
        self._batches.clear()

    def release(self) -> None:
        """Free what a step that ran out of memory has left."""
        zero_gradients(self._state)
        self._batches.clear()
        gc.collect()
        if self._process.device.type == "cuda":
            torch.cuda.empty_cache()

    def step(self, variant: Variant) -> float:
        """Run one step of training.

        Args:
            variant: The settings of the step. Its first step includes compilation and the search
                for algorithms.

        Returns:
            The seconds for one batch, until the device has finished.
        """
        state = self._state
        if variant not in self._functions:
            config = variant.applied(self._config)
            self._functions[variant] = make_functions(
                config, state.model, state.evaluated, self._process, state.functions.loss
            )
        state.functions = self._functions[variant]
        if variant.channels_last != self._channels_last:
            self._set_layout(variant.channels_last)
        batch = self._batch(state.functions.precision)
        began = time.perf_counter()
        train_step(state, itertools.repeat(batch), self._config.train.accumulate)
        if self._process.device.type == "cuda":
            torch.cuda.synchronize(self._process.device)
        return (time.perf_counter() - began) / self._config.train.accumulate

    def _batch(self, dtype: torch.dtype) -> Batch:
        if dtype not in self._batches:
            data = SyntheticLoader(
                batch_size=self.batch_size,
                image_size=self._config.augment.image_size,
                num_classes=self._classes,
                num_batches=1,
                device=self._process.device,
                dtype=dtype,
            )
            self._batches[dtype] = data.batch
        return self._batches[dtype]

    def _set_layout(self, channels_last: bool) -> None:
        """Set the memory format of the weights, their averages and the optimizers' moments."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        zero_gradients(self._state)
        self._state.model.to(memory_format=layout)
        if self._state.ema is not None:
            self._state.ema.to(memory_format=layout)
            self._state.averages = None
        for tensor in self._moments():
            tensor.data = tensor.data.contiguous(memory_format=layout)
        self._channels_last = channels_last

    def _moments(self) -> Iterator[Tensor]:
        for optimizer in self._state.optimizers:
            for values in optimizer.state.values():
                for value in values.values():
                    if isinstance(value, Tensor) and value.dim() == 4:
                        yield value

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        del self._state
        self._functions.clear()
        self._batches.clear()
        gc.collect()
        if self._process.device.type == "cuda":
            torch.compiler.reset()
            torch.cuda.empty_cache()
