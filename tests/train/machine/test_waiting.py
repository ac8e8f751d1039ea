"""Threads wait asleep on cores that other programs use, and in a loop elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from slipform.train.machine import waiting

CORES = {1, 2, 5}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine whose cores 1, 2 and 5 this process may use, in a process without torch."""
    load: dict[str, Any] = {"percent": [100.0, 0.0, 0.0, 100.0, 100.0, 0.0]}

    def percents(interval: float, percpu: bool) -> list[float]:
        assert percpu
        assert 0 < interval <= 0.5
        found = load["percent"]
        if isinstance(found, Exception):
            raise found
        return list(found)

    monkeypatch.setattr("psutil.cpu_percent", percents)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: CORES)
    monkeypatch.setattr(waiting, "sys", SimpleNamespace(modules={}))
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    return load


def test_only_the_cores_of_this_process_count(machine: dict[str, Any]) -> None:
    assert waiting.sleep_on_a_busy_machine() == ""
    assert "OMP_WAIT_POLICY" not in os.environ
    machine["percent"][2] = 49.0
    assert waiting.sleep_on_a_busy_machine() == ""
    machine["percent"][5] = 31.0
    assert "use 0.8 of the 3 cores" in waiting.sleep_on_a_busy_machine()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


@pytest.mark.parametrize("why", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "torchrun", "torch", "proc"])
def test_nothing_is_changed(
    machine: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine["percent"] = [100.0] * 6
    if why == "torchrun":
        monkeypatch.setenv("WORLD_SIZE", "2")
    elif why == "torch":
        monkeypatch.setattr(waiting, "sys", sys)
        assert "torch" in sys.modules
    elif why == "proc":
        machine["percent"] = PermissionError("/proc/stat")
    else:
        monkeypatch.setenv(why, "active")
    before = dict(os.environ)
    assert waiting.sleep_on_a_busy_machine() == ""
    assert dict(os.environ) == before


def test_one_core_needs_no_waiting(
    machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine["percent"] = [100.0] * 6
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1})
    assert waiting.sleep_on_a_busy_machine() == ""


def test_train_looks_before_torch_is_imported() -> None:
    """After its import the variable has no effect. The import ends the command here."""
    program = """
import json, sys
from click.testing import CliRunner
from slipform.train.machine import waiting
from slipform.train.cli import train
done = []
class Torch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            done.append("torch")
            sys.exit()
sys.meta_path.insert(0, Torch())
def look():
    done.append("look")
    return "busy"
waiting.sleep_on_a_busy_machine = look
for arguments in (["nowhere"], ["nowhere", "--quiet"], ["nowhere", "--device", "cuda"],
                  ["nowhere", "--all", "--recipe", "shapes/demo"]):
    done.append(CliRunner().invoke(train, arguments).output.startswith("note: busy"))
print(json.dumps(done))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == ["look", "torch", True, "look", "torch", False, *["torch", False] * 2]
