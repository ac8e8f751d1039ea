"""The settings that `bench tune` measured as best on this machine, for executor = "auto".

In: how the images are stored, the output size, the device. Out: the settings, or nothing. All
findings are in one file: $SLIPFORM_PROFILE, else tune.json in the user's cache folder. Its keys
hold the name of the machine, so that several machines can share it.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from slipform.pipelines.files import locked, open_regular, write_whole
from slipform.pipelines.limits import MAX_PREFETCH, MAX_THREADS
from slipform.pipelines.machine import cache_folder, device_key
from slipform.pipelines.project import project

__all__ = ["profile_key", "profile_path", "read_profile", "write_profile"]

_VERSION = 1
_MAX_BYTES = 16 << 20
_WORDS = {"precision": ("fp32", "bf16", "fp16"), "compile": ("on", "off", "graphs")}
_TEXTS = ("executor", "date")
_LIMITS = {"threads": MAX_THREADS, "prefetch": MAX_PREFETCH}


def profile_path() -> Path:
    """The file with all findings. It may not exist."""
    chosen = os.environ.get("SLIPFORM_PROFILE")
    return Path(chosen).expanduser().absolute() if chosen else cache_folder() / "tune.json"


def profile_key(stored: str, image_size: int, device: str) -> str:
    """The key of a finding in the file.

    Args:
        stored: How the images are stored, "jpeg" or "raw".
        image_size: Side of the output in pixels.
        device: "cpu", "cuda" or "cuda:N".

    Returns:
        A text that names the machine, all arguments, and the version of Slipform.
    """
    return (
        f"{device_key(device)}; {stored}; {image_size} px; {device.partition(':')[0]};"
        f" slipform {_version()}"
    )


@functools.cache
def _version() -> str:
    return project().version


def read_profile(key: str) -> dict[str, Any]:
    """The settings found for a key.

    Args:
        key: From `profile_key`.

    Returns:
        {"executor": ..., "threads": ..., "prefetch": ..., ...}. {} if there is no finding, or if
        the file cannot be read.
    """
    found = _read(profile_path()).get(key)
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if _fits(name, value)}


def _read(path: Path) -> dict[str, Any]:
    """All findings by key. {} if the file is missing, damaged or of another version."""
    try:
        with open_regular(path) as file:
            content = json.loads(file.read(_MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError):  # SlipformError is a ValueError
        return {}
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        return {}
    profiles = content.get("profiles")
    return profiles if isinstance(profiles, dict) else {}


def _fits(name: str, value: Any) -> bool:
    """Whether a value has the right type and range. A damaged file may hold anything."""
    if name in _LIMITS:
        return type(value) is int and 0 <= value <= _LIMITS[name]
    if name == "decoder_share":
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    if name == "channels_last":
        return isinstance(value, bool)
    allowed = _WORDS.get(name)
    return value in allowed if allowed else name not in _TEXTS or isinstance(value, str)


def write_profile(path: Path, key: str, found: dict[str, Any]) -> None:
    """Add or replace one finding.

    The other findings stay, also those that another process writes at the same time. A file that is
    damaged or of another version is replaced.

    Args:
        path: The file, see `profile_path`. Its folder is created.
        key: From `profile_key`.
        found: The settings, as `read_profile` returns them.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock"), "another bench tune", wait=True):
        profiles = _read(path) | {key: found}
        write_whole(path, json.dumps({"version": _VERSION, "profiles": profiles}, indent=1) + "\n")
