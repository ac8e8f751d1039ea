"""The commands `train`, `validate`, `predict`, `export`, `figures`, `find-lr`, `list`, `models`,
`replay`, `search`. `train` is also -m slipform.train.cli.

In: command lines. Out: run folders, tables, files. The commands import large packages when they
run, so that --help is fast. Several processes:
torchrun --nproc-per-node N --no-python slipform train DATA ...
"""

from __future__ import annotations

from slipform.train.commands.export import export
from slipform.train.commands.figures import figures
from slipform.train.commands.find_lr import find_lr
from slipform.train.commands.list import list_names
from slipform.train.commands.models import models
from slipform.train.commands.predict import predict
from slipform.train.commands.replay import replay
from slipform.train.commands.search import search
from slipform.train.commands.train import train
from slipform.train.commands.validate import validate

__all__ = [
    "export", "figures", "find_lr", "list_names", "models", "predict", "replay", "search",
    "train", "validate",
]  # fmt: skip

if __name__ == "__main__":
    train()
