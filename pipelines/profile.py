"""What `bench tune` found on this machine, for executor = "auto".

In: how images are stored, how large they come out, the device. Out: the settings found best, or
nothing. One file, ~/.cache/slipform/tune.json (or below $XDG_CACHE_HOME), keyed by machine, so that
machines may share a home folder.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

VERSION = 1


def cache_folder() -> Path:
    """Where what can be made again is kept: $XDG_CACHE_HOME/slipform, else ~/.cache/slipform."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipform"


def profile_path() -> Path:
    return cache_folder() / "tune.json"


def cpu_name() -> str:
    """The processor's name; where a hypervisor hides it, at least what it can do."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name", platform.processor() or platform.machine())
    flags = fields.get("flags", "").split()
    widest = next(
        (text for flag, text in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), ""
    )
    return f"{name} ({widest})" if widest else name


def profile_key(stored: str, image_size: int, device: str) -> str:
    """What a finding holds for. stored: "jpeg" or "raw"; image_size in pixels; device: "cpu",
    "cuda" or "cuda:N"."""
    processor = cpu_name()
    if device.startswith("cuda"):
        import torch

        processor = torch.cuda.get_device_name(device)
    return (
        f"{processor}, {len(os.sched_getaffinity(0))} cores; {stored}; {image_size} px;"
        f" {device.partition(':')[0]}"
    )


def read_profile(key: str) -> dict[str, Any]:
    """{"executor", "threads", "prefetch", ...} found for `key`; {} where nothing was, or the file
    is not readable."""
    try:
        content = json.loads(profile_path().read_text(encoding="utf-8"))
        return dict(content["profiles"][key]) if content["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_profile(path: Path, key: str, found: dict[str, Any]) -> None:
    """Add or replace one finding, keeping the others. A file that is damaged or of another version
    is written anew."""
    profiles: dict[str, Any] = {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] == VERSION:
            profiles = dict(content["profiles"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    profiles[key] = found
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(
        json.dumps({"version": VERSION, "profiles": profiles}, indent=1) + "\n", encoding="utf-8"
    )
    os.replace(temporary, path)
