"""Facts about the machine that can be simulated."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from slipform.pipelines import machine


@pytest.mark.parametrize(
    ("limit", "used", "want"),
    [
        ("max", "5", 1000),
        ("800", "300", 500),
        ("9000", "10", 1000),
        ("10", "30", 0),
        (None, None, 1000),
    ],
)
def test_free_memory_respects_the_limit_of_a_container(
    limit: str | None, used: str | None, want: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    for name, text in (("memory.max", limit), ("memory.current", used)):
        if text is not None:
            (tmp_path / name).write_text(f"{text}\n")
    assert machine.free_memory_bytes() == want


@pytest.mark.parametrize(
    ("stat", "want"),
    [
        ("anon 100\nfile 550\ninactive_file 300\nactive_file 200\n", 520),
        ("anon 100\nfile 990\ninactive_file 700\nactive_file 280\n", 1000),
        ("anon 100\n", 20),
        ("no numbers", 20),
    ],
)
def test_pages_of_files_in_a_container_are_free(
    stat: str, want: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a container has read stays in its memory until that is needed."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5000))
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    for name, text in (("memory.max", "1000"), ("memory.current", "980"), ("memory.stat", stat)):
        (tmp_path / name).write_text(text)
    assert machine.free_memory_bytes() == want


def test_cpu_seconds_of_others_are_those_of_the_machine_without_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Idle and waiting cores do not compute, and guests are in the user time already."""
    times = SimpleNamespace(user=100.0, system=20.0, steal=3.0, idle=900.0, iowait=7.0, guest=50.0)
    own = SimpleNamespace(user=30.0, system=10.0, children_user=4.0, children_system=1.0)
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    monkeypatch.setattr("os.times", lambda: own)
    assert machine.others_cpu_seconds() == 123 - 45
    monkeypatch.setattr(psutil, "cpu_times", SimpleNamespace)  # a system without these counters
    assert machine.others_cpu_seconds() is None


def test_one_core_is_not_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, text in ((1, ", 1 core"), (2, ", 2 cores")):
        monkeypatch.setattr(machine, "num_cores", lambda count=count: count)
        assert machine.machine_name().endswith(text)
        assert machine.device_key("cpu").endswith(text)
