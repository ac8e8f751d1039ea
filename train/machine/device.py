"""What "auto" means on this machine: precision and compilation, and torch's switches for a run.

In: a device and the [train] section. Out: decisions, each with its measurement.
"""

from __future__ import annotations

import os

import torch

from slipform.pipelines import machine
from slipform.pipelines.errors import ConfigError
from slipform.train.config.sections import Compile, Precision, TrainConfig

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_precision(name: Precision, device: torch.device) -> torch.dtype:
    """The dtype of autocast.

    Args:
        name: train.precision. "auto" is what holds where nothing was measured: bfloat16 on a GPU
            that has it, else float32.
        device: Where the run computes.

    Returns:
        torch.float32, bfloat16 or float16.

    Raises:
        ConfigError: "fp16" on a CPU.
    """
    if name != "auto":
        if name == "fp16" and device.type == "cpu":
            raise ConfigError(
                'train.precision = "fp16" needs a GPU: its small range needs the loss scaled. Use'
                ' "bf16" or "fp32".'
            )
        return _DTYPES[name]
    if device.type == "cuda" and has_bfloat16(device):
        return torch.bfloat16
    return torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Whether torch has kernels for bfloat16 there. That does not say that they are faster.

    Without them (2 cores, AVX2, torch 2.15, 16 images) a step took 15 s, not 0.66 s, for AlexNet,
    and 23 s, not 1.6 s, for ResNet-18.

    Args:
        device: Where a run computes.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pick_compile(choice: Compile, device: torch.device, accumulate: int = 1) -> str | None:
    """The mode of torch.compile.

    Args:
        choice: train.compile. "auto" compiles on GPUs only: on CPUs compiled nets ran at 0.7 to 0.8
            of eager speed at 224 px, after 36 s of compiling.
        device: Where the run computes.
        accumulate: Batches of one step.

    Returns:
        "default", "reduce-overhead" (CUDA graphs), or None for eager steps.

    Raises:
        ConfigError: "graphs" on a CPU, or with more than one batch a step.
    """
    if choice == "graphs":
        if device.type != "cuda":
            raise ConfigError(
                'train.compile = "graphs" needs an NVIDIA GPU. Use "auto", "on" or "off".'
            )
        if accumulate > 1:
            # The first gradient lies in the graphs' own memory, and the next batch overwrites it.
            raise ConfigError(
                f'train.compile = "graphs" cannot add up gradients over train.accumulate ='
                f' {accumulate} batches. Use train.compile = "on", or train.accumulate = 1.'
            )
        return "reduce-overhead"
    return "default" if choice == "on" or (choice == "auto" and device.type == "cuda") else None


def set_up(config: TrainConfig, device: torch.device) -> None:
    """Set torch's process-wide switches for a run. They outlast the run.

    Args:
        config: deterministic and tf32 are read.
        device: tf32 matters on GPUs only.
    """
    if config.deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.are_deterministic_algorithms_enabled() != config.deterministic:
        # The call imports torch's compiler, which takes a second.
        torch.use_deterministic_algorithms(config.deterministic)
    # Shapes never change, so that the fastest algorithm is searched once.
    torch.backends.cudnn.benchmark = not config.deterministic
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = config.tf32
        torch.backends.cudnn.allow_tf32 = config.tf32


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process has used, in bytes.

    Args:
        device: On a GPU it is what torch has reserved, since the pools of CUDA graphs count only
            there; on the CPU it is the resident memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return machine.peak_resident_bytes()
