"""The notebook: it is stored without outputs, and runs cell by cell in a real kernel."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ROOT / "train/examples/first_run.ipynb"
# Each step and its speed are shown, not only two steps in a second.
EACH_STEP = """
from slipform.pipelines import notebook
from slipform.train.run import progress
notebook._SECONDS = 0
progress._MIN_SECONDS = 0
"""


def test_it_is_stored_without_outputs() -> None:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6
    for cell in cells:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        compile("".join(cell["source"]), NOTEBOOK, "exec")


@pytest.mark.slow
@pytest.mark.timeout(1600)
@pytest.mark.filterwarnings("ignore")  # warnings of Jupyter's packages
def test_it_runs(
    needs: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are shown. Prep and training show one progress line each, which is replaced."""
    needs("nbclient")
    needs("ipykernel")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    assert "FORCE_COLOR" not in os.environ
    lines: list[str] = []

    class Watching(NotebookClient):  # type: ignore[misc]
        """Records every update of an output."""

        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                text = msg["content"]["data"].get("text/plain", "")
                lines.extend([text] if "image/png" not in msg["content"]["data"] else [])
            return super().process_message(msg, cell, cell_index)

    book = nbformat.read(NOTEBOOK, as_version=4)
    book.cells.insert(0, nbformat.v4.new_code_cell(EACH_STEP))
    Watching(book, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 4  # a batch, curves, confusion matrix, the predicted image
    streams = [output for output in outputs if output["output_type"] == "stream"]
    assert {output["name"] for output in streams} == {"stdout"}
    text = "".join(output["text"] for output in streams)
    assert len(re.findall(r"^epoch \d  train_loss", text, re.MULTILINE)) == 4
    assert not re.search(r"[\x1b\r]|━", text)
    moving = [line for line in lines if line.startswith(("epoch", "validating"))]
    parts = {f"{part} {epoch}/4" for part in ("epoch", "validating") for epoch in range(1, 5)}
    assert {line.partition("  ")[0] for line in moving} == parts
    assert any("images/s" in line and "left" in line and "loss" in line for line in moving)
    assert lines[-1] == ""
    kept = [o for o in outputs if o["output_type"] == "display_data" and o not in pictures]
    assert len(kept) == 2  # one of prep, one of training; all others update them
    accuracy = re.search(r"test accuracy (\d\.\d+)", text)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.5
