"""Exceptions in commands: messages for errors that a user can fix, tracebacks for the rest."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from slipform.pipelines.command import Command
from slipform.pipelines.errors import forget_frames


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1"), 1),
        (RuntimeError("can't start new thread"), 1),
        (OSError(28, "No space left on device", "x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_lack_of_resources_gives_a_message(error: BaseException, code: int) -> None:
    @click.command(cls=Command)
    def fails() -> None:
        raise error

    result = CliRunner().invoke(fails)
    assert result.exit_code == code
    assert result.output.strip()
    assert isinstance(result.exception, SystemExit)  # otherwise a traceback


def test_a_defect_keeps_its_traceback() -> None:
    @click.command(cls=Command)
    def fails() -> None:
        raise RuntimeError("shapes differ")

    assert isinstance(CliRunner().invoke(fails).exception, RuntimeError)


def test_errors_that_are_causes_of_each_other_are_left() -> None:
    one, other = KeyError(), ValueError()
    one.__cause__ = one.__context__ = other
    other.__cause__, other.__context__ = one, other
    forget_frames(one)  # it ends
