"""No test may fail by chance, or because a machine is slow or busy. This searches the source of the
tests for possible causes. tests/conftest.py seeds the shared generators. ruff refuses that of
numpy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from slipform.pipelines import profile
from tests.conftest import seed_all
from tests.modules import ROOT, files

LEAST_SECONDS = 200  # the minimum timeout of a process; pytest ends a test after 900 s
CLOCKS = {"perf_counter", "monotonic", "time", "process_time", "thread_time"}
WAITS = {"wait", "join", "result"}


def _calls(node: ast.AST) -> Iterator[tuple[ast.Call, str, str]]:
    """Every call of a.b(...) or b(...): the call, "a" or "", and "b"."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            *before, name = ast.unparse(call.func).split(".")
            yield call, ".".join(before), name


def _is_limit(owner: str, argument: ast.expr) -> bool:
    """Whether the one argument of a wait is a number of seconds. `", ".join(words)` has none."""
    if owner.endswith(("process", "thread")):
        return True
    value = argument.value if isinstance(argument, ast.Constant) else None
    return isinstance(value, int | float) and value < LEAST_SECONDS


def chances(text: str) -> list[str]:
    """The faults in a test file: random numbers without a seed, short time limits, asserted
    times."""
    tree, found = ast.parse(text), []
    for call, owner, name in _calls(tree):
        given = {keyword.arg for keyword in call.keywords}
        unseeded = name in ("default_rng", "Random") and not call.args and "seed" not in given
        if unseeded:
            found.append(f"line {call.lineno}: {ast.unparse(call)[:60]} has no seed")
        for keyword in call.keywords:
            if keyword.arg == "timeout" and isinstance(keyword.value, ast.Constant):
                seconds = keyword.value.value
                if isinstance(seconds, int | float) and seconds < LEAST_SECONDS:
                    found.append(
                        f"line {call.lineno}: {seconds} s may be too few on a busy machine"
                    )
        if name in WAITS and owner and len(call.args) == 1 and _is_limit(owner, call.args[0]):
            found.append(f"line {call.lineno}: {ast.unparse(call)} has a time limit of its own")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found += [
                f"line {node.lineno}: {ast.unparse(node)[:60]} depends on the time"
                for _, owner, name in _calls(node.test)
                if owner == "time" and name in CLOCKS
            ]
    return found


def test_no_test_depends_on_chance_or_time() -> None:
    found = [
        f"{path.relative_to(ROOT)}, {fault}"
        for path in files("tests")
        if path != Path(__file__)
        for fault in chances(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "x = np.random.default_rng()",
        "chance = random.Random()",
        "subprocess.run(command, timeout=20)",
        "process.wait(20)",
        "thread.join(60)",
        "thread.join(SECONDS)",
        "begun.wait(5)",
        "task.result(0.5)",
        "assert time.perf_counter() - began < 3",
    ],
)
def test_code_that_depends_on_chance_or_time_is_found(line: str) -> None:
    assert len(chances(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "x = np.random.default_rng(0)",
        "chance = random.Random(5)",
        "subprocess.run(command, timeout=280)",
        "process.wait()",
        "thread.join()",
        "text = ', '.join(words)",
        "begun.wait(LIMIT)",
        "began = time.perf_counter()",
    ],
)
def test_seeded_code_is_accepted(line: str) -> None:
    assert chances(line) == []


def test_the_shared_generators_are_seeded(request: pytest.FixtureRequest) -> None:
    """They are seeded before each test. (pytest-randomly seeds Python's generator again.)"""
    found = torch.rand(3)
    seed_all(request.node.nodeid)
    assert torch.equal(found, torch.rand(3))


def test_hypothesis_draws_the_same_examples_every_time() -> None:
    assert settings().derandomize
    assert settings().deadline is None


@pytest.mark.parametrize("number", [1, 2])
def test_the_profile_of_the_user_is_not_used(
    number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What `bench tune` has found on a machine, or another test, would choose the executor of a
    test, and of a command that it starts."""
    command = "from slipform.pipelines.profile import profile_path as f; print(f())"
    child = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    path = profile.profile_path()
    assert child.stdout.strip() == str(path)
    assert path.is_relative_to(tmp_path_factory.getbasetemp())
    assert not path.exists(), number
    profile.write_profile(path, "key", {"executor": "host"})
