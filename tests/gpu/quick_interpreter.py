"""Makes Triton's interpreter twice as fast. A process imports this module before the kernels.

In: nothing. Out: two changes to the interpreter of this process.

Triton replaces its language at each call of a function in a kernel, and puts it back after each
launch. A process that only interprets needs this once for each function. Triton also looks for an
overflow after each sum and product of integers. A GPU does not: its numbers wrap around, and the
tests compare the results with those of the CPU kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

from triton.runtime import interpreter

_patch = interpreter._patch_lang


@functools.cache
def _patch_once(function: Callable[..., object]) -> SimpleNamespace:
    _patch(function)
    return SimpleNamespace(restore=lambda: None)


interpreter._patch_lang = _patch_once
_builder = interpreter.interpreter_builder
_builder.options = replace(_builder.options, sanitize_overflow=False)
