"""Checks of packages and compilers: what is installed, and whether it can be imported.

In: nothing; the checks ask the system. Out: `Finding`s. A check does not raise: an error becomes a
finding.
"""

from __future__ import annotations

import ctypes
import getpass
import importlib
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from slipform.doctor.finding import Finding, State
from slipform.pipelines.project import project

__all__ = ["compiler", "packages"]


def packages() -> Iterator[Finding]:
    """The version of every package in pyproject.toml. Those that training needs are imported."""
    version, requirements, checkout = project()
    if checkout is None:
        yield Finding("Packages", "slipform", version, version)
    else:
        text = f"{version}, a checkout that is not installed: {checkout}"
        mend = f"pip install -e {checkout}"
        yield Finding("Packages", "slipform", text, version, "optional", mend)
    seen = set()
    for text in requirements:
        name, _, marker = (part.strip() for part in text.partition(";"))
        name = re.split(r"[\s\[<>=!~]", name)[0]
        extra = next(iter(re.findall(r"extra == ['\"](\w+)['\"]", marker)), "")
        if name in seen or extra in ("dev", "cuda130"):
            continue
        seen.add(name)
        yield _package(name, text.partition(";")[0].strip(), extra)


def _package(name: str, requirement: str, extra: str) -> Finding:
    section = "Packages" if not extra else "Optional packages"
    missing: State = "optional" if extra else "needed"
    mend = f'pip install "{f"slipform[{extra}]" if extra else requirement}"'
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(section, name, "not installed", None, missing, mend)
    try:
        _load(name)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "libopencv" in reason or "libturbojpeg" in reason:
            mend = "apt-get install libopencv-dev libturbojpeg0-dev"
        elif "lib" in reason and ".so" in reason:
            mend = f"apt-get install the package that has {reason.split(':')[0]}"
        return Finding(section, name, f"{version} does not load: {reason}", version, missing, mend)
    return Finding(section, name, version, version)


_IMPORTS = {
    "numba": "numba",
    "numpy": "numpy",
    "nvidia-dali-cuda120": "nvidia.dali",
    "opencv-python-headless": "cv2",
    "pillow": "PIL.Image",
    "pydantic": "pydantic",
    "safetensors": "safetensors.torch",
    "torch": "torch",
    "torchvision": "torchvision",
}


def _load(name: str) -> None:
    """Import a package that training needs. Of ffcv, load only its library: its import is slow."""
    if module := _IMPORTS.get(name):
        importlib.import_module(module)
    elif name == "ffcv" and (spec := importlib.util.find_spec("ffcv")):
        for folder in spec.submodule_search_locations or ():
            for library in Path(folder).glob("_libffcv*.so"):
                ctypes.CDLL(str(library))


def compiler() -> Iterator[Finding]:
    """What torch.compile needs on the CPU: a C++ compiler, openssl, Python's headers, a user."""
    found = shutil.which(os.environ.get("CXX", "g++"))
    yield Finding(
        "Compiling",
        "C++ compiler",
        found or "none: torch.compile does not work on the processor",
        found,
        "ok" if found else "optional",
        "" if found else "apt-get install g++",
    )
    if not shutil.which("openssl"):  # it computes the checksum of a precompiled header
        yield Finding(
            "Compiling",
            "openssl",
            "none: torch.compile does not work on the processor",
            None,
            "optional",
            "apt-get install openssl",
        )
    header = Path(sysconfig.get_path("include"), "Python.h")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    yield Finding(
        "Compiling",
        "Python.h",
        str(header) if header.exists() else "missing: torch.compile may not work",
        header.exists(),
        "ok" if header.exists() else "optional",
        "" if header.exists() else f"apt-get install python{version}-dev",
    )
    try:
        getpass.getuser()
    except (OSError, KeyError, ImportError):
        yield Finding(
            "Compiling",
            "user name",
            "unknown: torch.compile finds no cache folder",
            None,
            "optional",
            "export TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor",
        )
    yield _kernels()


def _kernels() -> Finding:
    """Whether numba's compiled code is in the cache."""
    try:
        from slipform.pipelines.plan.augmentation import Augmentation
        from slipform.pipelines.plan.kernels import draw
        from slipform.pipelines.plan.policy import Policy
        from slipform.pipelines.rendering.prepare import are_compiled

        folder = str(draw._cache._cache_path)
        done = are_compiled(Augmentation())
        all_done = done and are_compiled(Augmentation(policy=Policy("rand_augment")))
    except Exception as error:
        text = f"not usable: {error}"
        return Finding("Compiling", "compiled kernels", text, None, "needed", "pip install numba")
    state = "compiled, in" if done else "compiled at first use (about a minute), then kept in"
    if done and not all_done:
        state = "compiled, except those of policies (about a minute at first use), in"
    return Finding("Compiling", "compiled kernels", f"{state} {folder}", done)
