"""Access to NVIDIA DALI and nvImageCodec, and what makes their objects safe to fork.

In: nothing, or a built pipeline. Out: the modules, or the same pipeline. The threads of DALI do not
exist in a forked child. A pipeline that is used or freed in the child would wait for them forever.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import ref

from slipform.pipelines.errors import SlipformError

__all__ = ["dali", "nvimgcodec", "survives_fork"]

_process: int | None = None  # the process that loaded DALI
_pipelines: set[ref[Any]] = set()
_held: list[Any] = []  # all pipelines, during a fork


def dali() -> tuple[Any, Any, Any]:
    """Import DALI.

    Returns:
        DALI's `fn`, `pipeline_def` and `types`.

    Raises:
        SlipformError: DALI is not installed, or this process was forked from one that had used DALI
            or nvImageCodec.
    """
    with _use():
        from nvidia.dali import fn, pipeline_def, types

    return fn, pipeline_def, types


def nvimgcodec() -> Any:
    """Import nvImageCodec, the decoder inside DALI.

    Returns:
        Its module.

    Raises:
        SlipformError: As for `dali`.
    """
    # It would print a line for each undecodable image.
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
    with _use():
        from nvidia import nvimgcodec

    return nvimgcodec


@contextmanager
def _use() -> Iterator[None]:
    """Within the block, import modules that a fork of this process cannot use."""
    global _process
    if _process not in (None, os.getpid()):
        raise SlipformError(
            "this process is a fork of one that had loaded DALI, which cannot work after a fork."
            ' Start the process with multiprocessing\'s "spawn", or fork before the first Loader.'
        )
    try:
        yield
    except ModuleNotFoundError as error:
        raise SlipformError(
            "NVIDIA DALI is not installed, and JPEGs cannot be decoded without it. Install"
            " nvidia-dali-cuda120 or nvidia-dali-cuda130, or prepare the dataset with"
            " --encoding raw."
        ) from error
    _process = os.getpid()
    _watch_forks()


def survives_fork(pipeline: Any) -> Any:
    """Keep a pipeline or a decoder alive in forked children, so that it is never freed there.

    Args:
        pipeline: A built pipeline of DALI, or a decoder of nvImageCodec.

    Returns:
        The same object.
    """
    _pipelines.add(ref(pipeline, _pipelines.discard))
    return pipeline


@cache
def _watch_forks() -> None:
    os.register_at_fork(
        before=_hold,
        after_in_parent=_held.clear,
        after_in_child=_keep,
    )


def _hold() -> None:
    # `list` of a set is one step. The iteration of a WeakSet is many, and raises if another thread
    # adds a pipeline meanwhile.
    found = [one() for one in list(_pipelines)]
    _held.extend(pipeline for pipeline in found if pipeline is not None)


def _keep() -> None:
    # DALI shuts down all pipelines at the end of a process. This would hang in a forked child.
    module = sys.modules.get("nvidia.dali.pipeline")
    atexit.unregister(getattr(module, "_shutdown_pipelines", _keep))
    for pipeline in _held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(pipeline))
