"""Ctrl-C ends every command with 130, whatever error becomes of the `KeyboardInterrupt`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from threading import Thread

import click
import pytest
from click.testing import CliRunner, Result

from slipform.pipelines.command import Command, Group
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.stopping import is_asked

pytestmark = pytest.mark.usefixtures("ctrl_c")


def _result(work: Callable[[], object], *words: str, callback: bool = False) -> Result:
    """What a command of a group gives that does some work, or an option of it."""

    def parsed(context: click.Context, option: click.Parameter, value: object) -> None:
        work()

    group = Group("slipform")
    option = click.Option(["--option"], callback=parsed if callback else None)
    group.add_command(Command("work", callback=lambda option: work(), params=[option]))
    before = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(group, words or ["work"])
    assert signal.getsignal(signal.SIGINT) is before
    assert not is_asked()
    return result


def _other_error(error: Exception) -> Callable[[], None]:
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise error from None

    return work


@pytest.mark.parametrize(
    "error",
    [
        OSError("4 requested and 2 written"),
        RuntimeError("cannot release un-acquired lock"),
        SlipformError("damaged"),
        BrokenPipeError(),
        click.Abort(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_ctrl_c_became_is_ctrl_c(error: Exception) -> None:
    result = _result(_other_error(error))
    assert result.exit_code == 130
    assert "interrupted" in result.output


@pytest.mark.parametrize("callback", [False, True])
def test_ctrl_c_itself(callback: bool) -> None:
    """Also while options are read, for which click has the exit code 1."""
    assert _result(lambda: signal.raise_signal(signal.SIGINT), callback=callback).exit_code == 130


def test_lost_ctrl_c_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the cleanup of an object is ignored. The work may look at `is_asked`."""
    found = []

    class Cleaned:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def work() -> None:
        cleaned = Cleaned()
        del cleaned
        found.append(is_asked())

    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: lost.append(error.exc_type))
    assert _result(work).exit_code == 0
    assert (lost, found) == ([KeyboardInterrupt], [True])


def test_other_errors_and_other_threads_stay_as_they_are() -> None:
    def fails() -> None:
        raise SlipformError("damaged")

    assert _result(fails).exit_code == 1
    assert _result(lambda: None, "work", "--no").exit_code == 2
    found: list[Result] = []
    thread = Thread(target=lambda: found.append(_result(fails)))
    thread.start()
    thread.join()
    assert found[0].exit_code == 1


def test_a_handler_of_someone_else_stays() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        assert _result(lambda: signal.raise_signal(signal.SIGINT)).exit_code == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
