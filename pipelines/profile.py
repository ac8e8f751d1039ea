"""What `bench tune` found on this machine, for executor = "auto".

In: how images are stored, how large they come out, the device. Out: the settings found best, or
nothing. One file, ~/.cache/slipform/tune.json (or below $XDG_CACHE_HOME), keyed by machine, so that
machines may share a home folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipform.pipelines.files import write_whole
from slipform.pipelines.machine import cache_folder, device_name, num_cores

VERSION = 1


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
    write_whole(path, json.dumps({"version": VERSION, "profiles": profiles}, indent=1) + "\n")
