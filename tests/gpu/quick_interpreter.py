"""Makes Triton's interpreter faster. A process imports this module before the kernels.

In: nothing. Out: a change to the interpreter of this process.

Triton replaces its language at each call of a function in a kernel, and puts it back after each
launch. A process that only interprets needs this once for each function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace

from triton.runtime import interpreter

_patch = interpreter._patch_lang


@functools.cache
def _patch_once(function: Callable[..., object]) -> SimpleNamespace:
    _patch(function)
    return SimpleNamespace(restore=lambda: None)


interpreter._patch_lang = _patch_once
