"""The GPU's kernel, run on the CPU by Triton's interpreter, against the kernel for CPU cores: same
Plan, same pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SPECS = {
    "resized": (
        'crop="random_resized", flip="horizontal", color_jitter=ColorJitter(0.4, 0.4, 0.4, 0.1)'
    ),
    "zero": 'crop="random", resize=18, padding=4, flip="both", erase=0.5',
    "reflect": 'crop="random", resize=18, padding=4, border="reflect"',
    "edge": 'crop="random", resize=18, padding=4, border="edge"',
    "warp_zero": (
        'crop="center", resize=20, rotation=40.0, perspective=0.4, color_jitter=ColorJitter(0.4)'
    ),
    "warp_reflect": 'crop="center", resize=20, rotation=40.0, zoom=(0.7, 1.3), border="reflect"',
    "warp_edge": 'crop="center", resize=20, shear=20.0, translate=(0.2, 0.2), border="edge"',
    "center": "resize=18",
    "squeezed": 'crop="none"',
}
RUN = """
import sys
from pathlib import Path
import torch
from slipform.pipelines.plan.augmentation import Augmentation, ColorJitter
from slipform.pipelines.executors.contract import BatchRequest, Settings
from slipform.pipelines.executors.resident import ResidentExecutor
from slipform.pipelines.executors.resident_gpu import ResidentGpuExecutor
from slipform.pipelines.beton import Beton
from slipform.pipelines.plan.plan import draw
import numpy as np

beton = Beton(Path(sys.argv[1]) / "train.beton")
indices = np.array([0, 7, 3])
for name, text in {specs}.items():
    for dtype in (torch.float32, torch.bfloat16) if name == "resized" else (torch.float32,):
        spec = eval(f"Augmentation(image_size=16, normalize='imagenet', {{text}})").resolved([], [])
        settings = Settings(spec, 3, dtype, torch.device("cpu"), threads=1)
        plan = draw(spec, indices, beton.heights[indices], beton.widths[indices], 3, 1)
        for executor in (ResidentExecutor(beton, settings), ResidentGpuExecutor(beton, settings)):
            executor.submit(BatchRequest(indices, plan))
            file = f"{{sys.argv[2]}}/{{name}}-{{dtype}}-{{type(executor).__name__}}.pt"
            torch.save(executor.collect().images.float(), file)
            executor.close()
"""


QUICK = ["reflect", "warp_zero"]  # the interpreter takes seconds a spec
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SPECS]
)


@pytest.fixture(scope="module", params=["jpeg", pytest.param("raw", marks=pytest.mark.slow)])
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = request.getfixturevalue("shapes" if request.param == "jpeg" else "shapes_raw")
    out = tmp_path_factory.mktemp(f"triton-{request.param}")
    slow = "not slow" not in request.config.getoption("-m")
    specs = {name: text for name, text in SPECS.items() if slow or name in QUICK}
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", RUN.format(specs=specs), str(folder), str(out)]
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def load(folder: Path, name: str, dtype: str = "torch.float32") -> tuple[np.ndarray, np.ndarray]:
    kinds = ("ResidentExecutor", "ResidentGpuExecutor")
    host, gpu = (
        torch.load(folder / f"{name}-{dtype}-{kind}.pt", weights_only=True) for kind in kinds
    )
    return host.numpy(), gpu.numpy()


@every
def test_same_pixels_as_the_cpu_kernel(images: Path, name: str) -> None:
    host, gpu = load(images, name)
    assert host.shape == (3, 3, 16, 16)
    assert np.ptp(host) > 0.5
    np.testing.assert_allclose(gpu, host, atol=1e-4)


@pytest.mark.slow
def test_bfloat16_is_rounded_once(images: Path) -> None:
    host, gpu = load(images, "resized", "torch.bfloat16")
    single, _ = load(images, "resized")
    np.testing.assert_array_equal(host, torch.from_numpy(single).to(torch.bfloat16).float().numpy())
    assert (np.abs(gpu - host) <= 2**-7 * np.maximum(np.abs(host), 2**-7)).all()
