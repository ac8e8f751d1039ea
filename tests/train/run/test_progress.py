"""The progress line on terminals of 80 and 120 columns, and in a log."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from slipform.train.run.progress import ProgressLine, _duration, open_console
from tests.terminal import on_terminal


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def line(clock: _Clock) -> ProgressLine:
    return ProgressLine(Console(file=io.StringIO()), clock)


def test_unknown_values_are_not_shown(line: ProgressLine, clock: _Clock) -> None:
    line.begin_epoch(1, 20, 0, 100)
    line.step(0, 0.0, 0.0)  # the first step: the training time is not known yet
    text = line.line(120)
    assert "epoch 1/20" in text
    assert "1/100" in text
    assert not re.search("images/s|waiting|left|loss", text)


def test_the_time_left_counts_all_epochs_and_validation(line: ProgressLine, clock: _Clock) -> None:
    """Steps of 4 s, epochs of 10 steps and a validation of 20 s, 3 epochs."""
    line.begin_epoch(1, 3, 0, 10)
    for n in range(1, 11):
        clock.now += 4.0
        line.step(n * 32, n * 4.0, 0.25)
    assert line.seconds_left() == pytest.approx(80)  # no validation was seen yet
    assert "8 images/s" in line.line(120)
    assert "25% waiting" in line.line(120)
    line.begin_validation(5)
    for _ in range(5):
        clock.now += 4.0
        line.step()
    line.begin_epoch(2, 3, 0, 10)
    assert line.seconds_left() == pytest.approx(2 * 60)
    clock.now += 4.0
    line.step(32, 4.0, 0.25)
    assert line.seconds_left() == pytest.approx(2 * 60 - 4)
    line.begin_validation(5)
    clock.now += 8.0
    line.step()
    assert line.seconds_left() == pytest.approx(12 + 60)


@pytest.mark.parametrize("width", range(20, 140))
def test_the_line_fits_and_no_part_is_cut(width: int, line: ProgressLine, clock: _Clock) -> None:
    line.begin_epoch(100, 200, 0, 10_010)
    line.loss(2.3456)
    clock.now += 3600.0
    for _ in range(1234):
        line.step(1_567_890, 100.0, 0.02)
    text = line.line(width)
    assert len(text) <= width
    piece = (
        r"epoch 100/200|[━─]+|1234/10010|\d+ days \d+ h left|loss 2\.346|15,679 images/s"
        r"|2% waiting for data"
    )
    assert re.fullmatch(rf"(?:{piece})(?:  (?:{piece}))*", text), text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (7, "0:07"), (750, "12:30"), (11_100, "3:05:00"), (356_400, "4 days 3 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


# Steps of 5 s by a clock of its own. At the end of the first epoch's two parts it waits until the
# thread that draws the line has drawn it twice: the second time it began after the last step.
CODE = """
import time
from slipform.train.run.progress import ProgressLine, open_console

now = drawn = 0

class Counted(ProgressLine):
    def line(self, width):
        global drawn
        text = super().line(width)
        drawn += 1
        return text

def step(*values):
    global now
    now += 5
    line.step(*values)

def await_line():
    enough = drawn + 2
    while line.shown and drawn < enough:
        time.sleep(0.01)

console = open_console(False)
line = Counted(console, lambda: now)
console.print("tiny: 25,038 parameters, 25,038 trainable; 240 images of 6 classes; cpu, float32,"
              " loader host, batch 40, and 1,234,567 more", markup=False)
for epoch in (1, 2):
    line.begin_epoch(epoch, 2, 0, 8)
    for n in range(1, 9):
        step(n * 40, n * 5, 0.1)
        line.loss(1 / n)
    if epoch == 1:
        await_line()
    line.begin_validation(4)
    for n in range(4):
        step()
    if epoch == 1:
        await_line()
    console.print(f"epoch {epoch}  train_loss 1.234  train_accuracy 0.1234  val_loss 1.234"
                  "  val_accuracy 0.1234  images_per_second 1234", markup=False)
line.close()
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal(columns: int) -> None:
    written = on_terminal(CODE, columns)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    lines = [text for text in re.split(r"[\r\n]+", plain) if text]
    assert max(map(len, lines)) <= columns
    moving = [text for text in lines if re.match(r"(epoch|validating) \d/2  ", text)]
    shown = [text for text in moving if "train_loss" not in text]
    trained = r"epoch 1/2  (━+  )?8/8  0:40 left  loss 0.125  8 images/s.*"
    assert any(re.fullmatch(trained, text) for text in shown)
    assert any(re.match(r"validating 1/2  (━+  )?4/4  0:40 left  ", text) for text in shown)
    for number in ("25,038", "1,234,567", "0.1234", "images_per_second 1234"):
        assert number in " ".join(lines)


def test_in_a_log() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert len(result.stdout.splitlines()) == 3  # the headline, and a line for each epoch
    assert "\x1b" not in result.stdout


def test_a_closed_stderr_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service may start a command with 2>&-."""
    monkeypatch.setattr(sys, "stderr", None)
    console = open_console(quiet=False)
    console.print("unheard")
    progress = ProgressLine(console)
    progress.begin_epoch(1, 1, 0, 2)
    progress.step(8, 1.0, 0.0)
    progress.close()
    assert not progress.shown
