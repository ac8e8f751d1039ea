"""A browser that cannot open a page is ended, and its pipes are closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.result import browser
from tests.open_files import open_names

_REFUSES = """#!/bin/sh
printf '{"id": 1, "error": "for the test"}\\0' >&4
exec sleep 100000
"""


def _pipes() -> set[str]:
    return {name for name in open_names() if name.startswith("pipe:")}


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "refuses"])
def test_a_browser_without_a_page(
    ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_collections: None
) -> None:
    program = tmp_path / "browser"
    program.write_text("#!/bin/sh\n" if ends else _REFUSES)
    program.chmod(0o755)
    monkeypatch.setattr(browser, "BROWSER", str(program))
    before = _pipes()
    with pytest.raises((AssertionError, BrokenPipeError)), browser.opened(tmp_path / "profile"):
        pass
    assert _pipes() <= before
