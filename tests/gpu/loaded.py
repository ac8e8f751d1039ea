"""Loads what the programs of this folder need beside the modules of the others.

In: nothing. Out: modules and compiled kernels in this process, before it forks.
"""

from __future__ import annotations

from tests import loaded_kernels
from tests.gpu import drawn, interpreted, made_on_device, operated, whole_runs

__all__ = ["drawn", "interpreted", "loaded_kernels", "made_on_device", "operated", "whole_runs"]
