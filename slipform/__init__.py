"""Slipform: a high-throughput, data-pipeline-first trainer for image classifiers.

Everything that programs may rely on is here, and loads when it is first used: `import slipform`
imports neither torch nor numpy. Modules below are private by convention and may move.

```python
import slipform as sf

with sf.Loader("data/shapes", "train", batch_size=64) as loader:
    for images, labels in loader:
        ...
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipform.pipelines.batch import Batch
    from slipform.pipelines.beton import Beton
    from slipform.pipelines.errors import (
        ConfigError,
        DatasetError,
        Interrupted,
        SampleError,
        SlipformError,
    )
    from slipform.pipelines.loader import Loader
    from slipform.pipelines.manifest import Manifest
    from slipform.pipelines.plan.augmentation import Augmentation
    from slipform.pipelines.plan.plan import Plan
    from slipform.train.config.resolve import RunConfig, load_recipe
    from slipform.train.run.loop import fit

    __version__: str

__all__ = [
    "Augmentation",
    "Batch",
    "Beton",
    "ConfigError",
    "DatasetError",
    "Interrupted",
    "Loader",
    "Manifest",
    "Plan",
    "RunConfig",
    "SampleError",
    "SlipformError",
    "fit",
    "load_recipe",
]

# module: the public names that it gives; the same as above, for the interpreter
_HOMES = {
    "pipelines.batch": ("Batch",),
    "pipelines.beton": ("Beton",),
    "pipelines.errors": (
        "ConfigError",
        "DatasetError",
        "Interrupted",
        "SampleError",
        "SlipformError",
    ),
    "pipelines.loader": ("Loader",),
    "pipelines.manifest": ("Manifest",),
    "pipelines.plan.augmentation": ("Augmentation",),
    "pipelines.plan.plan": ("Plan",),
    "train.config.resolve": ("RunConfig", "load_recipe"),
    "train.run.loop": ("fit",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("slipform")
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"slipform.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'slipform' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
