"""Checks of folders: the cache, the free disk space, and the profiles of `bench tune`.

In: nothing; the checks ask the system. Out: `Finding`s. A check does not raise: an error becomes a
finding.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slipform.doctor.finding import GIB, Finding, State, gib
from slipform.pipelines.errors import printable
from slipform.pipelines.files import open_regular
from slipform.pipelines.machine import cache_folder, device_key
from slipform.pipelines.number_text import number_text
from slipform.pipelines.profile import profile_path

__all__ = ["folders"]

_MIN_FREE_DISK = 2 * GIB
_SHOWN = 6  # tune profiles


def folders() -> Iterator[Finding]:
    """The cache folder, its permissions and size; the free disk space here; the tune profiles."""
    cache = cache_folder()
    yield _cache(cache)
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= _MIN_FREE_DISK
    yield Finding(
        "Folders",
        "free disk, this folder",
        gib(free),
        free,
        "ok" if enough else "optional",
        "" if enough else "delete files, or give another folder with --out",
    )
    profiles = profile_path()
    found: dict[str, Any] = {}
    try:
        if profiles.exists():
            with open_regular(profiles) as file:
                found = json.loads(file.read())["profiles"]
        ordered = sorted(found.items(), key=lambda item: str(item[1].get("date", "")), reverse=True)
        names = [printable(f"{key}: {_settings(value)}") for key, value in ordered]
    except (AttributeError, OSError, ValueError, KeyError, TypeError, RecursionError):
        text = f"{profiles} is damaged and is ignored"
        yield Finding("Folders", "tune profiles", text, [], "optional", f"rm {profiles}")
        return
    shown = [_without_machine(name) for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        shown.append(f"and {len(names) - _SHOWN} older ones in {profiles}")
    text = "\n".join(shown) if shown else "none; `bench tune DATA` finds the fastest settings"
    yield Finding("Folders", "tune profiles", text, names)


def _settings(found: dict[str, Any]) -> str:
    """What a profile decided, and the images/s that were measured."""
    texts = []
    for name, value in found.items():
        if isinstance(value, bool | int | str):
            texts.append(f"{name} = {value}")
        elif isinstance(value, dict):
            rates = [f"{key} {number_text(rate)}" for key, rate in value.items()]
            texts.append(f"images/s: {'; '.join(rates)}")
    return ", ".join(texts)


def _without_machine(name: str) -> str:
    """The text of a profile; this machine is not named again."""
    return name.removeprefix(f"{device_key('cpu')}; ")


def _cache(cache: Path) -> Finding:
    if not cache.exists():
        parent = next(folder for folder in cache.parents if folder.exists())
        writable = os.access(parent, os.W_OK | os.X_OK)
        state: State = "ok" if writable else "optional"
        text = f"{cache}, not created yet" if writable else f"{cache} cannot be created"
        value = {"path": str(cache), "writable": writable, "private": True, "bytes": 0}
        mend = "" if writable else "export XDG_CACHE_HOME=/a/folder/of/yours"
        return Finding("Folders", "cache", text, value, state, mend)
    about = cache.stat()
    writable = os.access(cache, os.W_OK | os.X_OK)
    others = stat.S_IWGRP | stat.S_IWOTH
    private = about.st_uid == os.getuid() and not about.st_mode & others
    size = sum(path.lstat().st_size for path in cache.rglob("*") if path.is_file())
    value = {"path": str(cache), "writable": writable, "private": private, "bytes": size}
    text = f"{cache}, {size / 2**20:.1f} MiB"
    if not writable:
        text, mend = f"{text}, not writable", "export XDG_CACHE_HOME=/a/folder/of/yours"
    elif not private:
        text, mend = f"{text}, other users can write to it", f"chmod go-w {cache}"
    else:
        return Finding("Folders", "cache", text, value)
    return Finding("Folders", "cache", text, value, "optional", mend)
