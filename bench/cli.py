"""The command `bench`: every file in bench/suites and bench/commands is a subcommand.

In: the command line. Out: the output of the subcommand. `bench --help` lists the first line of each
file. A file is imported only when its subcommand is used.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import click

from slipform.bench import commands, suites
from slipform.pipelines.command import Group

__all__ = ["main"]

_EXAMPLES = """\b
Examples:
  bench loaders data/caltech101 --quick
  bench loaders data/caltech101 data/cifar10 --require --out bench/results/laptop-loaders.json
  bench train --data data/caltech101 --models alexnet,resnet18 --batch-sizes 16,64
  bench tune data/caltech101
  bench compare bench/results/laptop-loaders.json new.json
  bench report --readme README.md
"""


class _DiscoveredGroup(Group):
    """A click group whose commands are the files of two folders."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_files())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _files():
            return None
        module, _ = _files()[cmd_name]
        command = importlib.import_module(module).command
        assert isinstance(command, click.Command)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = []  # from the files' text: nothing is imported
        for name, (_, path) in sorted(_files().items()):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            lines.append((name, (docstring or "").partition("\n")[0]))
        with formatter.section("Commands"):
            formatter.write_dl(lines)


def _files() -> dict[str, tuple[str, Path]]:
    """Name of a command -> its module and its file."""
    return {
        found.name: (f"{package.__name__}.{found.name}", Path(folder, f"{found.name}.py"))
        for package in (suites, commands)
        for folder in package.__path__
        for found in pkgutil.iter_modules([folder])
    }


@click.group(cls=_DiscoveredGroup, epilog=_EXAMPLES, context_settings={"max_content_width": 110})
def main() -> None:
    """Measure dataset writing, loading and training on this machine, and compare with other tools.

    Every number comes with its interval.
    """


if __name__ == "__main__":
    main()
