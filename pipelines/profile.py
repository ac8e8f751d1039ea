"""What `bench tune` found on this machine, for executor = "auto".

In: how images are stored, how large they come out, the device. Out: the settings found best, or
nothing. One file, ~/.cache/slipform/tune.json (or below $XDG_CACHE_HOME), keyed by machine, so that
machines may share a home folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipform.pipelines.files import locked, open_regular, write_whole
from slipform.pipelines.machine import cache_folder, device_name, num_cores

VERSION = 1
_MOST_BYTES = 16 << 20
_WORDS = {"precision": ("fp32", "bf16", "fp16"), "compile": ("on", "off", "graphs")}
_TEXTS = ("executor", "date")


def profile_path() -> Path:
    return cache_folder() / "tune.json"


def profile_key(stored: str, image_size: int, device: str) -> str:
    """What a finding holds for. stored: "jpeg" or "raw"; image_size in pixels; device: "cpu",
    "cuda" or "cuda:N"."""
    return (
        f"{device_name(device)}, {num_cores()} cores; {stored}; {image_size} px;"
        f" {device.partition(':')[0]}"
    )


def read_profile(key: str) -> dict[str, Any]:
    """{"executor", "threads", "prefetch", ...} found for `key`; {} where nothing was, or the file
    is not readable."""
    found = _read(profile_path()).get(key)
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if _fits(name, value)}


def _read(path: Path) -> dict[str, Any]:
    """All findings; none where the file is missing, damaged or of another version."""
    try:
        with open_regular(path) as file:
            content = json.loads(file.read(_MOST_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError):  # SlipformError is a ValueError
        return {}
    if not isinstance(content, dict) or content.get("version") != VERSION:
        return {}
    profiles = content.get("profiles")
    return profiles if isinstance(profiles, dict) else {}


def _fits(name: str, value: Any) -> bool:
    """Wrong types and absurd numbers of a damaged file are as good as no finding."""
    if name in ("threads", "prefetch"):
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 4096
    if name == "channels_last":
        return isinstance(value, bool)
    allowed = _WORDS.get(name)
    return value in allowed if allowed else name not in _TEXTS or isinstance(value, str)


def write_profile(path: Path, key: str, found: dict[str, Any]) -> None:
    """Add or replace one finding, keeping the others, also those that another process writes at the
    same time. A file that is damaged or of another version is written anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock"), "another bench tune", wait=True):
        profiles = _read(path) | {key: found}
        write_whole(path, json.dumps({"version": VERSION, "profiles": profiles}, indent=1) + "\n")
