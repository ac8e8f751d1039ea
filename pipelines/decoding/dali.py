"""The one door to NVIDIA DALI: `dali()` gives its modules, `survives_fork` guards a pipeline.

In: nothing, or a built pipeline. Out: the same. DALI's threads do not exist in a forked child: a
pipeline used there, or freed there, would wait for them for ever.
"""

from __future__ import annotations

import atexit
import ctypes
import os
from functools import cache
from typing import Any
from weakref import WeakSet

from slipform.pipelines.errors import SlipformError

_process: int | None = None  # the one that loaded DALI
_pipelines: WeakSet[Any] = WeakSet()
_held: list[Any] = []  # all of them, while a fork goes on


def dali() -> tuple[Any, Any, Any]:
    """DALI's `fn`, `pipeline_def` and `types`.

    Raises:
        SlipformError: This process is a fork of one that had already used DALI.
    """
    global _process
    if _process not in (None, os.getpid()):
        raise SlipformError(
            "this process is a fork of one that had loaded DALI, which cannot work after a fork."
            ' Start the process with multiprocessing\'s "spawn", or fork before the first Loader.'
        )
    from nvidia.dali import fn, pipeline_def, types

    _process = os.getpid()
    _watch_forks()
    return fn, pipeline_def, types


def survives_fork(pipeline: Any) -> Any:
    """The same pipeline. A forked child keeps it for ever, so that nothing there frees it."""
    _pipelines.add(pipeline)
    return pipeline


@cache
def _watch_forks() -> None:
    os.register_at_fork(
        before=lambda: _held.extend(_pipelines),
        after_in_parent=_held.clear,
        after_in_child=_keep,
    )


def _keep() -> None:
    from nvidia.dali import pipeline as module

    # At the end of the process DALI shuts down all pipelines, which hangs here.
    atexit.unregister(getattr(module, "_shutdown_pipelines", _keep))
    for pipeline in _held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(pipeline))
