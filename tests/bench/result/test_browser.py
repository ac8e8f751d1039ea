"""A browser that cannot open a page is ended, and its pipes are closed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.result import browser

_REFUSES = """#!/bin/sh
printf '{"id": 1, "error": "for the test"}\\0' >&4
exec sleep 100000
"""


def _open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "refuses"])
def test_a_browser_without_a_page(
    ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "browser"
    program.write_text("#!/bin/sh\n" if ends else _REFUSES)
    program.chmod(0o755)
    monkeypatch.setattr(browser, "BROWSER", str(program))
    before = _open_files()
    with pytest.raises((AssertionError, BrokenPipeError)), browser.opened(tmp_path / "profile"):
        pass
    assert _open_files() == before
