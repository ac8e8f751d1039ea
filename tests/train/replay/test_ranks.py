"""The batches of a run of two processes, made again by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from slipform.train.cli import replay
from slipform.train.config.run_config import RunConfig
from slipform.train.replay.batches import replayed
from slipform.train.replay.history import history, place_of_step
from slipform.train.run.loop import fit
from tests.processes import finish, torchrun
from tests.train.replay.conftest import SMALL, Seen, assert_all

# Each process keeps what its steps see.
PROGRAM = """
import os, sys
from pathlib import Path
from safetensors.torch import save_file
from slipform.train.run import steps
folder = Path(sys.argv.pop(1))
original = steps.train_step
def watched(state, batches, count=1, *more):
    kept = []
    def noted():
        for batch in batches:
            of = (batch.images, batch.indices, batch.labels, batch.mix.labels, batch.mix.weight)
            kept.append([tensor.clone() for tensor in of])
            yield batch
            if len(kept) == count:
                return
    result = original(state, noted(), count, *more)
    for k, tensors in enumerate(kept):
        names = ("images", "indices", "labels", "mix_labels", "weight")
        named = dict(zip(names, map(lambda x: x.contiguous(), tensors)))
        save_file(named, folder / f"{state.step}-{k}-{os.environ['RANK']}.safetensors")
    return result
steps.train_step = watched
from slipform.train.cli import train
train()
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_step_of_two_processes_and_then_of_one(
    shapes: Path, tmp_path: Path, small: Callable[..., RunConfig], seen: Seen, no_figures: None
) -> None:
    program, kept, run = tmp_path / "program.py", tmp_path / "kept", tmp_path / "run"
    program.write_text(PROGRAM)
    kept.mkdir()
    changed = ("train.batch_size=20", "train.accumulate=2", "augment.mixup=0.4")
    sets = [word for text in (*SMALL, *changed) for word in ("--set", text)]
    finish(torchrun(2, program, kept, shapes, "--out", run, *sets))
    segments = history(run)
    assert segments[0].start.world_size == 2
    for step in range(1, 7):
        made = replayed(place_of_step(segments, step), torch.device("cpu"))
        for rank, batches in enumerate(made.batches):
            assert len(batches) == 2
            for k, batch in enumerate(batches):
                known = load_file(kept / f"{step}-{k}-{rank}.safetensors")
                assert batch.mix is not None
                assert torch.equal(batch.indices, known["indices"])
                assert torch.equal(batch.images, known["images"])
                assert torch.equal(batch.labels, known["labels"])
                assert torch.equal(batch.mix.labels, known["mix_labels"])
                assert torch.equal(batch.mix.weight, known["weight"])
    assert len(list(kept.iterdir())) == 6 * 2 * 2
    # One process continues with as many images in a step.
    alone = (*changed[1:], "train.batch_size=40", "train.epochs=3")
    fit(small(*alone), shapes, run, device="cpu", quiet=True, resume=True)
    assert list(seen) == [7, 8, 9]
    assert_all(run, seen)
    before = replayed(place_of_step(history(run), 6), torch.device("cpu"))
    assert torch.equal(before.together().images, made.together().images)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_divergence_of_two_processes(shapes: Path, tmp_path: Path) -> None:
    """It is found by two processes, and one process draws. Other numbers of processes are
    refused."""
    run, out = tmp_path / "run", tmp_path / "out"
    changed = (*SMALL, "train.batch_size=20", "optimizer.lr=1e20")
    sets = [word for text in changed for word in ("--set", text)]
    _, errors = torchrun(2, "-m", "slipform.train.cli", shapes, "--out", run, *sets).communicate()
    assert "training diverged" in errors
    words = [str(run), "--to-divergence", "--device", "cpu", "--out", str(out)]
    alone = CliRunner().invoke(replay, words)
    assert alone.exit_code == 1
    assert f"torchrun --nproc-per-node 2 --no-python slipform replay {run}" in alone.output
    output, _ = finish(torchrun(2, "-m", "slipform", "replay", *words))
    assert output.count("images; loss") == 1
    assert len(list(out.glob("replay-step-*.png"))) == 1
