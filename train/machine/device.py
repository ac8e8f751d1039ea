"""Precision and compilation for "auto" on this machine, and torch's global settings for a run.

In: a device and the [train] section. Out: the dtype of autocast, the mode of torch.compile, peak
memory. Comments give the measurements behind the choices.
"""

from __future__ import annotations

import os
import sys

import torch

from slipform.pipelines import machine
from slipform.pipelines.errors import ConfigError
from slipform.train.config.sections import Compile, Precision, TrainConfig
from slipform.train.machine.allocator import keep_from_now_on

__all__ = ["has_bfloat16", "peak_memory_bytes", "pick_compile", "pick_precision", "set_up"]

_SWITCH_SECONDS = 0.0005
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_precision(name: Precision, device: torch.device) -> torch.dtype:
    """The dtype of autocast: torch.float32, bfloat16 or float16.

    Args:
        name: train.precision. "auto" is the choice without a measurement: bfloat16 on a GPU with
            bfloat16, else float32.
        device: The device of the run.

    Raises:
        ConfigError: "fp16" on a CPU.
    """
    if name != "auto":
        if name == "fp16" and device.type == "cpu":
            raise ConfigError(
                'train.precision = "fp16" needs a GPU: its small range requires loss scaling. Use'
                ' "bf16" or "fp32".'
            )
        return _DTYPES[name]
    if device.type == "cuda" and has_bfloat16(device):
        return torch.bfloat16
    return torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Whether torch has kernels for bfloat16 on a device. They are not always faster.

    Without them (2 cores, AVX2, torch 2.15, 16 images) a step in bfloat16 took 15 s instead of 0.66
    s for AlexNet, and 23 s instead of 1.6 s for ResNet-18.

    Args:
        device: The device of the run.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pick_compile(choice: Compile, device: torch.device, accumulate: int = 1) -> str | None:
    """The mode of torch.compile.

    Args:
        choice: train.compile. "auto" compiles on GPUs only: on a CPU (AMD EPYC Zen 4, `bench train
            --compile off,on`) compiled nets ran at 0.7 to 0.8 of the eager speed at 224 px, and at
            0.65 to 1.03 at 32 px, after up to 36 s of compilation. `bench tune` also measures it.
        device: The device of the run.
        accumulate: Batches in a step.

    Returns:
        "default", "reduce-overhead" (CUDA graphs), or None for eager execution.

    Raises:
        ConfigError: "graphs" on a CPU, or with more than one batch in a step.
    """
    if choice == "graphs":
        if device.type != "cuda":
            raise ConfigError(
                'train.compile = "graphs" needs an NVIDIA GPU. Use "auto", "on" or "off".'
            )
        if accumulate > 1:
            # The first gradient is in the memory of the graphs, and the next batch overwrites it.
            raise ConfigError(
                f'train.compile = "graphs" cannot accumulate gradients over train.accumulate ='
                f' {accumulate} batches. Use train.compile = "on", or train.accumulate = 1.'
            )
        return "reduce-overhead"
    return "default" if choice == "on" or (choice == "auto" and device.type == "cuda") else None


def set_up(config: TrainConfig, device: torch.device) -> None:
    """Set torch's global settings for a run, and those of the allocator. They stay set after it.

    Args:
        config: Its deterministic and tf32 are read.
        device: The device of the run; tf32 applies to GPUs only.
    """
    if config.deterministic:
        # cuBLAS reads the variable at its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.are_deterministic_algorithms_enabled() != config.deterministic:
        # This call imports torch's compiler, which takes a second.
        torch.use_deterministic_algorithms(config.deterministic)
    # Shapes never change, so the search for the fastest algorithm runs once.
    torch.backends.cudnn.benchmark = not config.deterministic
    if device.type == "cuda":
        # Threads of the loader run Python code. The thread that launches kernels releases the GIL
        # in most calls. It would otherwise wait up to 5 ms to acquire it again.
        sys.setswitchinterval(_SWITCH_SECONDS)
        torch.backends.cuda.matmul.allow_tf32 = config.tf32
        torch.backends.cudnn.allow_tf32 = config.tf32
    else:
        keep_from_now_on()


def peak_memory_bytes(device: torch.device) -> int:
    """The peak memory of this process, in bytes.

    Args:
        device: A GPU: the memory that torch reserved, which includes the pools of CUDA graphs. The
            CPU: the resident memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return machine.peak_resident_bytes()
