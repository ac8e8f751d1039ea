"""Every reader of files that may be damaged or hostile, with an intact file of its kind.

In: a folder for the files. Out: `Reader`s: the file to mutate, the function that reads it, and the
check of its result. A reader either gives a right result or raises a SlipformError.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slipform.bench.result.result import read_result
from slipform.pipelines import profile
from slipform.pipelines.checksums import crc32_path, read_crc32
from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.manifest import FILE_NAME, read_manifest
from slipform.pipelines.sample_names import read_names
from slipform.train.config.recipe import load_recipe
from slipform.train.config.resolve import resolve
from slipform.train.records import read_metrics, read_summary
from slipform.train.run import checkpoint
from slipform.train.run.best import load_best, save_best
from slipform.train.run.checkpoint import crc32
from slipform.train.run.folder import run_config
from slipform.train.run.resume import restore
from slipform.train.sweep.jobs import Job
from tests.drills.reader import Reader
from tests.drills.run_readers import loading, of_uses
from tests.drills.source_readers import of_images, of_sources

BEFORE = Path(__file__).parents[1] / "train" / "before"  # a small dataset, and runs on it
RESULT = Path(__file__).parents[2] / "bench" / "results" / "epyc-zen4-2-cores-loaders.json"


def readers(folder: Path) -> list[Reader]:
    """All of them."""
    return [
        *_of_datasets(folder / "dataset"),
        *_of_runs(folder / "run"),
        *of_uses(folder / "uses", BEFORE / "sgd"),
        *of_sources(folder / "source"),
        *of_images(folder / "images"),
    ]


def _of_datasets(folder: Path) -> list[Reader]:
    shutil.copytree(BEFORE / "data", folder)
    manifest = read_manifest(folder)
    dataset = open_dataset(folder)
    whole = _in_a_child(folder, lambda: [dataset.image("val", k) for k in range(8)])
    labels = [dataset.label("val", k) for k in range(8)]
    table = read_crc32(folder / "val.beton", len(dataset.beton("val"))).copy()
    names = b"".join(b"a/%d.jpg\n" % k for k in range(manifest.splits["val"].num_samples))
    (folder / "val.names.txt").write_bytes(names)
    import hashlib

    split = manifest.splits["val"].model_copy(
        update={"names_sha256": hashlib.sha256(names).hexdigest()}
    )

    def read_of_manifest() -> None:
        found = read_manifest(folder)
        assert len(found.mean) == 3
        assert all(isinstance(name, str) for name in found.classes)
        open_dataset(folder).beton("val")

    def read_beton() -> None:
        opened = open_dataset(folder)
        beton = opened.beton("val")
        for index in range(8):
            try:
                image = opened.image("val", index)
            except SlipformError:
                continue
            same = np.array_equal(image, whole[index]) and beton.labels[index] == labels[index]
            # Metadata has no checksum of its own. `verify` compares the SHA-256 of the file.
            assert same or image.ndim == 3

    def read_table() -> None:
        found = read_crc32(folder / "val.beton", len(table))
        assert found.shape == table.shape
        assert found.dtype == np.uint32

    def read_sample_names() -> None:
        found = read_names(folder, split)
        assert found is not None
        assert "".join(f"{name}\n" for name in found).encode() == names

    cache = folder / "cache"
    cache.mkdir()
    tune = cache / "tune.json"
    profile.write_profile(tune, "key", {"executor": "host", "threads": 2, "prefetch": 3})

    def read_profiles() -> None:
        found = profile._read(tune).get("key")
        kept = {k: v for k, v in found.items() if profile._fits(k, v)} if found else {}
        assert isinstance(kept.get("executor", ""), str)

    def read_bench() -> None:
        read_result(folder / "result.json")

    shutil.copy(RESULT, folder / "result.json")
    return [
        Reader("manifest", folder / FILE_NAME, read_of_manifest, 3000),
        Reader("beton", folder / "val.beton", read_beton, 2600),
        Reader("table of checksums", crc32_path(folder / "val.beton"), read_table, 128),
        Reader("names of samples", folder / "val.names.txt", read_sample_names),
        Reader("tune profile", tune, read_profiles),
        Reader("result of bench", folder / "result.json", read_bench, 3000),
    ]


def _in_a_child(folder: Path, make: Callable[[], list[Any]]) -> list[Any]:
    """Arrays that a forked child makes: this process must not load DALI, which does not work after
    a fork."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            np.savez(folder / "child.npz", *make())
            code = 0
        finally:
            os._exit(
                code
            )  # also after an exception: the child must not continue the work of its caller
    assert os.waitpid(child, 0)[1] == 0
    with np.load(folder / "child.npz") as arrays:
        found = list(arrays.values())
    (folder / "child.npz").unlink()
    return found


def _of_runs(folder: Path) -> list[Reader]:
    shutil.copytree(BEFORE / "sgd", folder)
    best = load_best(folder)
    save_best(folder, best, {"epoch": "1", "classes": json.dumps(["a", "b"])})  # with a checksum
    [saved] = checkpoint.checkpoints(folder)
    signed = folder / "signed"  # a run folder whose checkpoint has the right checksum
    (signed / "checkpoints").mkdir(parents=True)
    shutil.copy(saved, signed / "any.pt")
    plain = folder / "plain.safetensors"
    from safetensors.torch import save_file

    save_file(best, plain)
    pth, run = folder / "state.pth", BEFORE / "sgd"
    torch.save({name: x.clone() for name, x in best.items()}, pth)

    def read_checkpoint() -> None:
        found = checkpoint.load_newest(folder, lambda _: None)
        assert found is not None
        assert crc32(saved) == int(saved.stem[-8:], 16)

    def read_signed() -> None:
        for old in (signed / "checkpoints").iterdir():
            old.unlink()
        name = f"step-00000002-{crc32(signed / 'any.pt'):08x}.pt"
        shutil.copy(signed / "any.pt", signed / "checkpoints" / name)
        found = checkpoint.load_newest(signed, lambda _: None)
        assert found is not None
        _restore(found)

    def read_best() -> None:
        found = load_best(folder)
        assert found.keys() == best.keys()
        assert all(torch.equal(found[name], best[name]) for name in best)

    def read_config() -> None:
        assert run_config(folder).train.epochs >= 0

    def read_lines() -> None:
        for kind in ("step", "epoch", "diverged"):
            assert all(line["kind"] == kind for line in read_metrics(folder, kind))
        assert Job(None, None, folder).num_epochs >= 0

    def read_of_summary() -> None:
        found = read_summary(folder)
        assert found is None or found["epochs"] > 0

    recipe = folder / "recipe.toml"
    shutil.copy(Path(load_recipe.__code__.co_filename).parents[1] / "recipes" / "mnist"
                / "convolutional.toml", recipe)  # fmt: skip

    def read_recipe() -> None:
        found = load_recipe(recipe)
        for run in found.runs[:3]:
            resolve(found, (), None, run)

    return [
        Reader("checkpoint", saved, read_checkpoint),
        Reader("signed checkpoint", signed / "any.pt", read_signed, 3000),
        Reader("best weights", folder / "best.safetensors", read_best, 1500),
        Reader("weights of others, safetensors", plain, loading(plain, run), 1500),
        Reader("weights of others, torch.save", pth, loading(pth, run), 1500),
        Reader("config.toml", folder / "config.toml", read_config, 3000),
        Reader("metrics.jsonl", folder / "metrics.jsonl", read_lines, 3000),
        Reader("summary.json", folder / "summary.json", read_of_summary),
        Reader("recipe", recipe, read_recipe, 3000),
    ]  # fmt: skip


def _restore(saved: dict[str, object]) -> None:
    from slipform.pipelines.loader import Loader
    from slipform.pipelines.plan.augmentation import Augmentation
    from slipform.train.machine.distributed import join
    from slipform.train.step.build import build_state

    config = run_config(BEFORE / "sgd").replace("model.weights", "none")
    with join("cpu") as process, Loader(
        BEFORE / "data", augment=Augmentation(image_size=16, resize=18), batch_size=8,
        executor="resident", threads=1,
    ) as loader:  # fmt: skip
        state = build_state(
            config, num_classes=loader.num_classes, process=process, first_images=None,
            on_load=lambda _: None,
        )  # fmt: skip
        restore(saved, config, state, loader, process, lambda _: None)
