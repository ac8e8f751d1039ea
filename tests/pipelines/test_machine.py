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
