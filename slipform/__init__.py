"""Slipform: a high-throughput, data-pipeline-first trainer for image classifiers.

The names of `__all__` are the public API. A name is imported when it is first used: `import
slipform` imports neither torch nor numpy. All modules below are private by convention and may move.

```python
import slipform as sf

with sf.Loader("data/shapes", "train", batch_size=64) as loader:
    for images, labels in loader:
        ...
```
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipform.models.spec import ModelConfig, register_model
    from slipform.pipelines.batch import Batch
    from slipform.pipelines.beton import Beton
    from slipform.pipelines.dataset import Dataset, open_dataset
    from slipform.pipelines.errors import (
        ConfigError,
        DatasetError,
        Interrupted,
        SampleError,
        SlipformError,
        StorageError,
    )
    from slipform.pipelines.folds import Fold
    from slipform.pipelines.label_table import LabelTable
    from slipform.pipelines.loader import Loader
    from slipform.pipelines.manifest import Manifest, read_manifest
    from slipform.pipelines.plan.augmentation import Augmentation
    from slipform.pipelines.plan.blur import Blur
    from slipform.pipelines.plan.color_jitter import ColorJitter
    from slipform.pipelines.plan.plan import Plan
    from slipform.pipelines.plan.policy import Policy
    from slipform.pipelines.plan.registry import register_augmentation
    from slipform.preprocess.prep import prepare
    from slipform.train.config.recipe import Recipe, load_recipe
    from slipform.train.config.resolve import resolve
    from slipform.train.config.run_config import RunConfig
    from slipform.train.inference.classifier import Classifier
    from slipform.train.inference.evaluate import evaluate
    from slipform.train.inference.judge import judge
    from slipform.train.inference.predict import Prediction
    from slipform.train.machine.allocator import keep_freed_memory
    from slipform.train.run.loop import fit
    from slipform.train.step.label_metrics import LabelEvaluation
    from slipform.train.step.metrics import Evaluation

    __version__: str

__all__ = [
    "Augmentation",
    "Batch",
    "Beton",
    "Blur",
    "Classifier",
    "ColorJitter",
    "ConfigError",
    "Dataset",
    "DatasetError",
    "Evaluation",
    "Fold",
    "Interrupted",
    "LabelEvaluation",
    "LabelTable",
    "Loader",
    "Manifest",
    "ModelConfig",
    "Plan",
    "Policy",
    "Prediction",
    "Recipe",
    "RunConfig",
    "SampleError",
    "SlipformError",
    "StorageError",
    "evaluate",
    "fit",
    "judge",
    "keep_freed_memory",
    "load_recipe",
    "open_dataset",
    "prepare",
    "read_manifest",
    "register_augmentation",
    "register_model",
    "resolve",
]

# Module -> its public names: the imports above, for the interpreter.
_HOMES = {
    "models.spec": ("ModelConfig", "register_model"),
    "pipelines.batch": ("Batch",),
    "pipelines.beton": ("Beton",),
    "pipelines.dataset": ("Dataset", "open_dataset"),
    "pipelines.errors": (
        "ConfigError",
        "DatasetError",
        "Interrupted",
        "SampleError",
        "SlipformError",
        "StorageError",
    ),
    "pipelines.folds": ("Fold",),
    "pipelines.label_table": ("LabelTable",),
    "pipelines.loader": ("Loader",),
    "pipelines.manifest": ("Manifest", "read_manifest"),
    "pipelines.plan.augmentation": ("Augmentation",),
    "pipelines.plan.blur": ("Blur",),
    "pipelines.plan.color_jitter": ("ColorJitter",),
    "pipelines.plan.plan": ("Plan",),
    "pipelines.plan.policy": ("Policy",),
    "pipelines.plan.registry": ("register_augmentation",),
    "preprocess.prep": ("prepare",),
    "train.config.recipe": ("Recipe", "load_recipe"),
    "train.config.resolve": ("resolve",),
    "train.config.run_config": ("RunConfig",),
    "train.inference.classifier": ("Classifier",),
    "train.inference.evaluate": ("evaluate",),
    "train.inference.judge": ("judge",),
    "train.inference.predict": ("Prediction",),
    "train.machine.allocator": ("keep_freed_memory",),
    "train.run.loop": ("fit",),
    "train.step.label_metrics": ("LabelEvaluation",),
    "train.step.metrics": ("Evaluation",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        return import_module("slipform.pipelines.project").project().version
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"slipform.{home}"), name)
            globals()[name] = value
            return value
    # With name and obj, the traceback ends with the most similar name.
    own = sys.modules[__name__]
    raise AttributeError(f"module 'slipform' has no attribute '{name}'", name=name, obj=own)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
