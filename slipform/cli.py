"""The command `slipform` with its subcommands.

In: the command line. Out: the output of the subcommand. The module of a subcommand is imported only
when it runs or shows its help: `slipform --help` imports click and nothing else.
"""

from __future__ import annotations

from importlib import import_module

import click

from slipform.pipelines.command import Group

__all__ = ["COMMANDS", "main"]

# Name -> (the place of its click command, its line in `slipform --help`).
COMMANDS = {
    "prep": (
        "slipform.preprocess.cli:main",
        "Convert a dataset to .beton files once, with checksums.",
    ),
    "train": (
        "slipform.train.cli:train",
        "Train a model on a dataset folder, or run a sweep of models.",
    ),
    "validate": (
        "slipform.train.cli:validate",
        "Measure the accuracy of a trained model on a split of a dataset.",
    ),
    "predict": (
        "slipform.train.cli:predict",
        "Classify image files with a trained model.",
    ),
    "export": (
        "slipform.train.cli:export",
        "Write a trained model as safetensors, ONNX or torch.export.",
    ),
    "figures": (
        "slipform.train.cli:figures",
        "Compare trained nets: first layers, histograms of weights and gradients.",
    ),
    "replay": (
        "slipform.train.cli:replay",
        "Show the batch that a step of a run saw, or the first difference of two runs.",
    ),
    "find-lr": (
        "slipform.train.cli:find_lr",
        "Suggest a learning rate for a run.",
    ),
    "search": (
        "slipform.train.cli:search",
        "Search for settings with Optuna, many runs.",
    ),
    "list": (
        "slipform.train.cli:list_names",
        "List recipes, nets, settings or augmentations, each with a description.",
    ),
    "models": (
        "slipform.train.cli:models",
        "Show the layers of a net: shapes, parameters, operations.",
    ),
    "bench": (
        "slipform.bench.cli:main",
        "Measure the speed on this machine, compared with other loaders.",
    ),
    "doctor": (
        "slipform.doctor.cli:doctor",
        "Show what this machine has, what is missing, and how to fix it.",
    ),
}


class _LazyGroup(Group):
    """A click group that imports a subcommand only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from slipform.pipelines.project import project

        click.echo(f"slipform {project().version}")
        ctx.exit()


@click.group(cls=_LazyGroup)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Prepare images, train image classifiers on them, measure and export the models.

    \b
    Examples:
      slipform prep shapes --out data/shapes
      slipform train data/shapes --out runs/first
      slipform predict runs/first photo.jpg

    slipform COMMAND --help shows the options of a command. prep, train, validate, predict and bench
    are also separate commands.
    """
