"""The click commands of this project: `Command` and `Group`.

In: a function. Out: a command that ends with a message and the exit code of its error, with 130
after Ctrl-C, and that answers a wrong word with the most similar right one.
"""

from __future__ import annotations

import re
from typing import Any

import click

from slipform.pipelines.errors import Interrupted, nearest, nearest_path, reported
from slipform.pipelines.stopping import is_asked, notes_interrupt

__all__ = ["Command", "Group", "refused_choice"]


def refused_choice(error: click.BadParameter, kind: object) -> str:
    """The text of an error of click, with a suggestion if a word was not one of the choices.

    Args:
        error: The error.
        kind: The type of the parameter.

    Returns:
        Its message, perhaps with ' Did you mean "x"?'.
    """
    missing = re.search(r" '(.*)' does not exist\.$", error.message)
    if missing and isinstance(kind, click.Path):
        return error.message + nearest_path(missing[1])
    given = re.match(r"'(.*)' is not one of ", error.message)
    if given is None or not isinstance(kind, click.Choice):
        return error.message
    return error.message + nearest(given[1], map(str, kind.choices))


class _ReportsInterrupt:
    """Mixin for click commands: Ctrl-C, OSErrors and a lack of memory end them with a message.

    They end without a traceback. `-h` shows the help, too. A wrong word is answered with the most
    similar right one.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        chosen = settings.pop("context_settings", None) or {}
        chosen = {"help_option_names": ["-h", "--help"], **chosen}
        super().__init__(*args, context_settings=chosen, **settings)  # type: ignore[call-arg]

    def main(self, *args: Any, **settings: Any) -> Any:
        with notes_interrupt():
            try:
                return super().main(*args, **settings)  # type: ignore[misc]
            except SystemExit as end:
                if end.code and is_asked():  # click reports Ctrl-C outside of `invoke` as code 1
                    raise SystemExit(Interrupted.exit_code) from None
                raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except click.BadParameter as error:
            message = refused_choice(error, error.param.type if error.param else None)
            if message == error.message:
                raise
            raise click.BadParameter(message, error.ctx, error.param) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None
        except Exception as error:
            # Code between here and the exception may have made another error of Ctrl-C.
            if is_asked() and not isinstance(error, click.exceptions.Exit | Interrupted):
                raise Interrupted("interrupted") from error
            # The reader of the output has ended: click ends without a message.
            if isinstance(error, BrokenPipeError | click.ClickException):
                raise
            if (known := reported(error)) is None:
                raise
            raise known from error


class Command(_ReportsInterrupt, click.Command):
    """click.Command with this project's exit codes."""


class Group(_ReportsInterrupt, click.Group):
    """click.Group with this project's exit codes."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name, as in `click.Group`, or a suggestion.

        Args:
            ctx: The context of click.
            args: The arguments; the first one is the name.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchOption:
            raise
        except click.UsageError:
            hint = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx) from None
