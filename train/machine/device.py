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
    """The dtype of autocast. "auto": bfloat16 where the hardware multiplies it quickly, else
    float32."""
    if name != "auto":
        if name == "fp16" and device.type == "cpu":
            raise ConfigError(
                'train.precision = "fp16" needs a GPU: its small range needs the loss scaled. Use'
                ' "bf16" or "fp32".'
            )
        return _DTYPES[name]
    if device.type == "cuda":
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float32
        )
    # oneDNN has bfloat16 kernels from AVX-512 on: 1.8 times the speed of float32 for AlexNet and
    # ResNet-18. Without them (2 cores, AVX2, torch 2.15, 16 images) a step took 15 s, not 0.66 s,
    # for AlexNet, and 23 s, not 1.6 s, for ResNet-18.
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def pick_compile(choice: Compile, device: torch.device, accumulate: int = 1) -> str | None:
    """torch.compile's mode, or None for eager steps. "auto": on GPUs. On CPUs compiled nets ran at
    0.7 to 0.8 of eager speed at 224 px, after 36 s of compiling."""
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
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS reads it when it is first used
    if torch.are_deterministic_algorithms_enabled() != config.deterministic:
        # It imports torch's compiler, which takes a second.
        torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = (
        not config.deterministic
    )  # shapes never change, so trying all algorithms once pays
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = config.tf32
        torch.backends.cudnn.allow_tf32 = config.tf32


def peak_memory_bytes(device: torch.device) -> int:
    """On a GPU what torch has reserved at most (CUDA graphs' pools count there only), else this
    process' resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return machine.peak_resident_bytes()
