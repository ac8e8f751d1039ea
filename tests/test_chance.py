"""No test may fail by chance, or because a machine is slow or busy. This searches the source of the
tests for possible causes. tests/conftest.py seeds the shared generators. ruff refuses that of
numpy."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import settings

from slipform.pipelines import profile
from tests.chances import chances
from tests.conftest import seed_all
from tests.modules import ROOT, files


def test_no_test_depends_on_chance_or_time() -> None:
    found = [
        f"{path.relative_to(ROOT)}, {fault}"
        for path in files("tests")
        if path.name not in ("test_chance.py", "chances.py")
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
        "begun.wait(LIMIT)",  # from another module
        "LIMIT = 5\nbegun.wait(LIMIT)",
        "LIMIT = 5\nsubprocess.run(command, timeout=LIMIT)",
        "gate.wait(timeout=LIMIT)",
        "found = results.get(True, 3)",
        "lock.acquire(True, 3)",
        "condition.wait_for(ready, 5)",
        "process.communicate(text, 20)",
        "signal.alarm(5)",
        "from signal import alarm\nalarm(5)",
        "@pytest.mark.timeout(4)\ndef test_it(): pass",
        "assert time.perf_counter() - began < 3",
        "from time import perf_counter\nassert perf_counter() - began < 3",
        "from time import monotonic as clock\nassert clock() < end",
        "import time as t\nassert t.monotonic() < end",
        "began = time.time()\nelapsed = time.time() - began\nassert elapsed < 3",
        "spans = []\nspans.append(time.perf_counter())\nassert max(spans) < 3",
        "def spent():\n    return time.perf_counter()\ndef test_it():\n    assert spent() < 3",
        "def test_it():\n    assert spent() < 3\ndef spent():\n    return time.perf_counter()",
        "def begin(self):\n    self.at = time.time()\ndef test_it(self):\n    assert self.at < 3",
        "assert datetime.now().year == made.year",
        "while time.monotonic() < end:\n    assert not failed",
        "while not ready() and time.monotonic() < end:\n    time.sleep(0.1)",
        "end = time.monotonic() + 5\nwhile time.monotonic() < end:\n    if ready(): break",
        "if time.monotonic() > end:\n    pytest.fail()",
        "assert summary['seconds'] < 3",
        "assert 3 > row.start_up_seconds",
        "assert 0 < found['elapsed'] <= 3",
        "assert rates['images_per_second'] > 100",
        "CODE = '''\nimport time\nassert time.time() < 3\n'''",
    ],
)
def test_code_that_depends_on_chance_or_time_is_found(line: str) -> None:
    assert chances(line)


@pytest.mark.parametrize(
    "line",
    [
        "x = np.random.default_rng(0)",
        "chance = random.Random(5)",
        "subprocess.run(command, timeout=280)",
        "process.wait()",
        "thread.join()",
        "text = ', '.join(words)",
        "text = ', '.join(WORDS)",
        "size = settings.get('size', 3)",
        "LIMIT = 300\nbegun.wait(LIMIT)",
        "code = process.wait(LIMIT)\nLIMIT = 300",
        "signal.alarm(300)",
        "ahead.wait(0)",
        "began = time.perf_counter()",
        "def test_a():\n    x = time.time()\ndef test_b():\n    assert x < 3",  # another x
        "due = time.monotonic() + 1\nwhile time.monotonic() < due:\n    for x in loader: break",
        "assert summary['seconds'] > 0",
        "assert a['seconds'] < b['seconds']",
        "assert rates['images_per_second'] < 100",
        "assert time.time() < 3  # any speed: a clock of the test",
    ],
)
def test_code_that_does_not_is_accepted(line: str) -> None:
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
