"""The readers of files in a run folder: weights for a net, a Classifier, figures.

In: a finished run, a folder for the files. Out: `Reader`s, for `tests.drills.readers`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from slipform.models import registry
from slipform.models.weights import load_weights
from slipform.pipelines.errors import SlipformError, lacks_memory
from slipform.train.figures.curves import draw_run
from slipform.train.inference.classifier import Classifier
from slipform.train.run.best import load_best, save_best
from slipform.train.run.folder import run_config
from tests.drills.reader import Reader


def of_uses(folder: Path, run: Path) -> list[Reader]:
    """folder: does not exist yet. run: a run of version 0.1, which is not changed."""
    folder.mkdir()
    image = torch.arange(40 * 40 * 3).reshape(40, 40, 3).to(torch.uint8).numpy()
    found = []
    for name in ("config.toml", "dataset.json", "best.safetensors"):
        copy = folder / name.partition(".")[0]
        shutil.copytree(run, copy)
        save_best(copy, load_best(run), {"epoch": "1"})

        def classify(copy: Path = copy) -> None:
            try:
                classifier = Classifier.load(copy, "cpu")
                [prediction] = classifier.predict(image, top=1)
            except (MemoryError, RuntimeError) as error:  # a command reports this, too
                if not lacks_memory(error):
                    raise
                raise SlipformError(str(error)) from error
            assert prediction.classes[0][0] in classifier.classes

        found.append(Reader(f"classifier, {name}", copy / name, classify, 3000))
    shutil.copytree(run, folder / "figures")

    def draw() -> None:
        assert draw_run(folder / "figures").is_file()

    return [*found, Reader("figures, metrics.jsonl", folder / "figures/metrics.jsonl", draw, 3000)]


def loading(path: Path, run: Path) -> Callable[[], None]:
    """Copy the weights in a file into the net of a run."""
    config, best = run_config(run), load_best(run)
    num_classes = len(best["classifier.0.bias"])
    net = registry.build(config.model, num_classes=num_classes, image_size=32)

    def load() -> None:
        report = load_weights(net, str(path), config.model.name)
        assert report.loaded
        assert all(x.isfinite().all() for x in net.state_dict().values())

    return load
