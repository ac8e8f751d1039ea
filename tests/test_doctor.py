"""`slipform doctor`: right results on this machine, and a command for each missing part."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from slipform.doctor import cli, folders, machine, packages, precision
from slipform.doctor.finding import Finding
from slipform.pipelines.machine import device_key
from slipform.pipelines.profile import write_profile
from slipform.pipelines.project import project

# Smaller work for the measurements of a child process.
SMALLER = (
    "from slipform.doctor import precision as p; p._SIDES['cpu'], p._IMAGES['cpu'] = 64, (2, 8, 14)"
)
SPEEDS = {name: {"float32": 2e9, "bfloat16": 1e9} for name in ("matmul", "convolution")}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure nothing."""
    monkeypatch.setattr(precision, "measure", lambda device: SPEEDS)


@pytest.mark.usefixtures("quick")
def test_training_works_on_this_machine() -> None:
    found = CliRunner().invoke(cli.doctor, ["--json"], catch_exceptions=False)
    report = json.loads(found.output)
    assert found.exit_code == 0
    assert report["training_works"] is True
    values = {finding["name"]: finding["value"] for finding in report["findings"]}
    for name in ("torch", "numba", "nvidia-dali-cuda120", "opencv-python-headless", "slipform"):
        assert values[name] == metadata.version(name)
    assert values["cores"] == len(os.sched_getaffinity(0))
    assert values["matmul on cpu"] == SPEEDS["matmul"]
    assert all(finding["mend"] for finding in report["findings"] if finding["state"] != "ok")


@pytest.mark.usefixtures("quick")
def test_a_missing_part_is_named_with_the_command_that_fixes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(name: str) -> None:
        if name == "opencv-python-headless":
            raise ImportError("libGL.so.1: cannot open shared object file")

    def version(name: str) -> str:
        if name in ("safetensors", "onnx"):
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(packages, "_load", load)
    monkeypatch.setattr(metadata, "version", version)
    found = CliRunner().invoke(cli.doctor, catch_exceptions=False)
    assert found.exit_code == 1
    assert 'pip install "safetensors>=' in found.output
    assert 'pip install "slipform[export]"' in found.output
    assert "libGL.so.1" in found.output
    assert "Missing: opencv-python-headless, safetensors." in found.output
    assert "Traceback" not in found.output


@pytest.mark.usefixtures("quick")
def test_a_failing_training_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(device: str) -> Any:
        raise RuntimeError("Illegal instruction")

    monkeypatch.setattr(precision, "measure", measure)
    found = CliRunner().invoke(cli.doctor, catch_exceptions=False)
    assert found.exit_code == 1
    assert "a training step fails: Illegal instruction" in found.output


def test_a_driver_without_a_torch_that_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(machine, "_nvidia", lambda: (["NVIDIA H100"], "580.1"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    states = {finding.name: (finding.state, finding.mend) for finding in machine.gpu()}
    state, mend = states["CUDA of torch"]
    assert state == "optional"
    assert mend


def _folder(name: str) -> Finding:
    return next(finding for finding in folders.folders() if finding.name == name)


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "slipform"
    assert _folder("cache").state == "ok"
    cache.mkdir(mode=0o700)
    (cache / "kernel").write_bytes(bytes(1000))
    assert _folder("cache").value == {
        "path": str(cache),
        "writable": True,
        "private": True,
        "bytes": 1000,
    }
    cache.chmod(0o777)
    assert (_folder("cache").state, _folder("cache").mend) == ("optional", f"chmod go-w {cache}")


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"profiles": 3}', "[" * 100_000, "null"])
def test_a_damaged_profile_is_named(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SLIPFORM_PROFILE")
    (tmp_path / "slipform").mkdir()
    profile = tmp_path / "slipform/tune.json"
    profile.write_text(content, encoding="utf-8")
    assert _folder("tune profiles").mend == f"rm {profile}"


def test_the_newest_profiles_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SLIPFORM_PROFILE")
    path, machine = tmp_path / "slipform/tune.json", device_key("cpu")
    for day in range(1, 9):
        found = {"precision": "bf16", "date": f"2026-01-0{day}", "rates": [1.0]}
        write_profile(path, f"{machine}; net {day}", found)
    write_profile(path, "Other processor, 4 cores; net 9", {"date": "2026-01-09"})
    finding = _folder("tune profiles")
    assert len(finding.value) == 9
    lines = finding.text.splitlines()
    assert lines[0] == "Other processor, 4 cores; net 9: date = 2026-01-09"
    assert lines[1] == "net 8: precision = bf16, date = 2026-01-08"
    assert lines[6:] == [f"and 3 older ones in {path}"]


def test_a_speed_that_is_almost_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for bf16, says in ((104, "the same"), (97, "the same"), (170, "1.7 times"), (50, "2.0 times")):
        figures = {"float32": 100e9, "bfloat16": bf16 * 1e9}
        monkeypatch.setattr(precision, "measure", lambda device, one=figures: {"matmul": one})
        (finding, *_) = cli._precision()
        assert f"({says}" in finding.text
        assert ("slower" in finding.text) == (bf16 == 50)


@pytest.mark.parametrize(
    "home",
    [
        None,
        pytest.param("/proc", marks=pytest.mark.slow),
        pytest.param("/does/not/exist", marks=pytest.mark.slow),
    ],
)
def test_without_a_home_folder(home: str | None, tmp_path: Path) -> None:
    """A user in a container: no home folder, or one that is not writable. The checks are real."""
    environment = {key: value for key, value in os.environ.items() if "HOME" not in key}
    if home:
        environment["HOME"] = home
    program = f"{SMALLER}; from slipform.cli import main; main(['doctor', '--json'])"
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["training_works"] is True


def test_speeds_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that advances by half a second. torch counts the operations."""
    ticks = itertools.count(step=0.5)
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setitem(precision._SIDES, "cpu", 64)
    monkeypatch.setitem(precision._IMAGES, "cpu", (2, 8, 14))
    with FlopCounterMode(display=False) as counter:
        found = precision.measure("cpu")
    operations = {"matmul": 2 * 64**3, "convolution": 3 * 2 * 2 * 14**2 * 8**2 * 3**2}
    assert found == {
        name: dict.fromkeys(("float32", "bfloat16"), count / 0.5)
        for name, count in operations.items()
    }
    calls = 2 * (1 + precision._REPEATS)  # of each, in two precisions
    assert counter.get_total_flops() == calls * sum(operations.values())


@pytest.mark.usefixtures("quick")
def test_further_lines_of_a_finding_stand_below_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("Folders", "tune profiles", "first\nsecond", [])]
    monkeypatch.setattr(folders, "folders", lambda: found)
    lines = CliRunner().invoke(cli.doctor, catch_exceptions=False).output.splitlines()
    first, second = (line for line in lines if line.endswith(("first", "second")))
    assert first.index("first") == second.index("second")


def test_a_missing_openssl_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    assert "openssl" not in {finding.name for finding in packages.compiler()}
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding for finding in packages.compiler()}
    assert found["openssl"].mend == "apt-get install openssl"
    assert found["C++ compiler"].mend == "apt-get install g++"


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version and requirements are those of the installed package."""
    installed = project()

    def distribution(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(metadata, "distribution", distribution)
        checkout = project()
    assert checkout.version == installed.version
    assert installed.checkout is None
    assert checkout.checkout == Path(__file__).parents[1]

    def plain(requirements: list[str]) -> set[str]:
        return {re.sub(r"[\s'\"]", "", text) for text in requirements}

    assert {text.partition(";")[0] for text in plain(checkout.requirements)} == {
        text.partition(";")[0] for text in plain(installed.requirements)
    }
    monkeypatch.setattr(packages, "project", lambda: checkout)
    first = next(packages.packages())
    assert (first.value, first.state) == (checkout.version, "optional")
    assert str(checkout.checkout) in first.text
