"""One condition of `bench train`, `bench auto` and `bench gpu`: a net, its data and its settings.

In: the settings. Out: a `Point`, the configuration of its run, and the work of its loader.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipform.bench.images import image_files
from slipform.bench.work import Work, is_small, usual_work

__all__ = ["BACKBONES", "MODELS", "SMALL_MODELS", "Point", "decided", "run_config", "work_of"]

BACKBONES = ("alexnet", "resnet18", "resnet34", "resnet50", "vgg16")
MODELS = (*BACKBONES, "tiny", "cnn")  # the default for images of any size
SMALL_MODELS = ("tiny", "cnn", "fast")  # the default for small images
_LONG_RUN_EPOCHS = 10_000


@dataclass(frozen=True)
class Point:
    """One condition.

    Attributes:
        data: The dataset folder.
        model: The name of a net in the registry.
        batch_size: Images in a batch.
        precision: The setting train.precision.
        compile: The setting train.compile.
        layout: The setting train.channels_last: "auto", "last" (true) or "first" (false).
        executor: The setting data.executor.
        device: "cpu" or "cuda".
        cores: The number of cores that the process may use.
        peer: Whether to measure a torch DataLoader with the same step, too.
    """

    data: str
    model: str
    batch_size: int
    precision: str = "auto"
    compile: str = "auto"
    layout: str = "auto"
    executor: str = "auto"
    device: str = "cpu"
    cores: int = 1
    peer: bool = True


def run_config(point: Point, work: Work) -> Any:
    """The configuration of the run: SGD with momentum, cross entropy.

    Args:
        point: The condition.
        work: The work of the loader.

    Returns:
        A RunConfig.
    """
    from slipform.models.spec import ModelConfig
    from slipform.train.config.optimizers import Sgd
    from slipform.train.config.run_config import RunConfig
    from slipform.train.config.sections import DataConfig, TrainConfig

    own_stem = point.model in BACKBONES and is_small(Path(point.data))
    return RunConfig(
        data=DataConfig(folder=point.data, executor=point.executor),
        augment=work.augment,
        model=ModelConfig(name=point.model, small_input=own_stem),
        optimizer=Sgd(lr=0.001, momentum=0.9),
        train=TrainConfig(
            batch_size=point.batch_size,
            precision=point.precision,  # type: ignore[arg-type]
            compile=point.compile,  # type: ignore[arg-type]
            channels_last="auto" if point.layout == "auto" else point.layout == "last",
        ),
    )


def decided(point: Point, seconds: float, *, known: bool = True) -> Point:
    """Replace "auto" in precision, compile and layout, as `train` does for a long run.

    Args:
        point: The condition.
        seconds: The setting train.auto_seconds.
        known: Whether a choice in the profile of the machine is taken.
    """
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.machine.device import set_up
    from slipform.train.machine.distributed import join
    from slipform.train.run.decide import decide

    with join(point.device) as process:
        config = run_config(point, work_of(point, str(process.device), "float32"))
        config = config.replace("train.epochs", _LONG_RUN_EPOCHS)
        config = config.replace("train.auto_seconds", seconds)
        set_up(config.train, process.device)
        manifest = read_manifest(Path(point.data))
        train = decide(config, manifest, process, known=known).config.train
    layout = "last" if train.channels_last else "first"
    return replace(point, precision=train.precision, compile=train.compile, layout=layout)


def work_of(point: Point, device: str, dtype: str) -> Work:
    """The work of the loader of a point.

    Args:
        point: The condition.
        device: The device of the batches.
        dtype: Their data type.
    """
    data = Path(point.data)
    work = usual_work(
        data, batch_size=point.batch_size, cores=point.cores, device=device, dtype=dtype
    )
    if work.stored == "raw":
        return work
    return replace(work, files=str(image_files(data, "train")))
