"""The command `bench`: its commands are in bench/commands. torch is imported only once there is
something to measure."""

from __future__ import annotations

import click

from slipform.bench.commands import measuring, showing
from slipform.pipelines.errors import Group

EXAMPLES = """\b
Examples:
  bench loaders data/caltech101 --quick
  bench loaders data/caltech101 data/cifar10 --require --out bench/results/laptop-loaders.json
  bench train --data data/caltech101 --models alexnet,resnet18 --batch-sizes 16,64
  bench tune data/caltech101
  bench compare bench/results/laptop-loaders.json new.json
  bench report --readme README.md
"""


@click.group(cls=Group, epilog=EXAMPLES, context_settings={"max_content_width": 110})
def main() -> None:
    """Measure preparing, loading and training on this machine, beside the peers, with the spread of
    every number."""


for command in (
    *(measuring.prep, measuring.loaders, measuring.train, measuring.accuracy, measuring.tune),
    *(showing.compare, showing.report),
):
    main.add_command(command)


if __name__ == "__main__":
    main()
