"""Freed memory stays in the process, unless the user has chosen how the allocator works."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Each of the blocks has 16,384 pages. Their sizes differ, as those of the tensors of a step do.
PROGRAM = """
import resource
import torch
from slipform.train.machine.allocator import give_back_freed_memory, keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [torch.ones(2**24 + 1000 * k) for k in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

torch.set_num_threads(1)
print(keep_freed_memory())
faults()
print(faults())
before = resident()
give_back_freed_memory()
print(before - resident())
"""


def _run(**variables: str) -> tuple[str, int, int]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env={**kept, **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    accepted, faults, given_back = done.stdout.split()
    return accepted, int(faults), int(given_back)


def test_blocks_are_used_again_and_can_be_given_back() -> None:
    accepted, faults, given_back = _run()
    assert accepted == "True"
    assert faults < 1000  # of 490,000 pages that are written
    assert given_back > 150_000_000  # of 200 MB


@pytest.mark.parametrize(
    "variable",
    ["MALLOC_TRIM_THRESHOLD_=131072", "GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072"],
)
def test_a_users_settings_stay(variable: str) -> None:
    name, _, value = variable.partition("=")
    assert _run(**{name: value})[0] == "False"


@pytest.mark.parametrize("variable", ["MALLOC_ARENA_MAX=2", "GLIBC_TUNABLES=glibc.malloc.check=0"])
def test_other_settings_change_nothing(variable: str) -> None:
    name, _, value = variable.partition("=")
    assert _run(**{name: value})[0] == "True"
