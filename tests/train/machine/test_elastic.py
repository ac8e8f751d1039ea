"""Processes are killed, and others continue: the order of the samples and the losses do not change.

The reference is one process that nobody disturbs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from slipform.pipelines.order import EpochOrder
from slipform.train.config.resolve import resolve
from slipform.train.records import read_metrics
from slipform.train.run.loop import fit
from tests.processes import finish, forked, torchrun, wait_for
from tests.train.machine.cluster import free_port
from tests.train.machine.recorded import Script, steps_seen
from tests.warm import Warm

# Every process imports torch: 5 s of processor time each.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.usefixtures("no_figures")]

IMAGES, EPOCHS = 240, 3
# Three processes get 13, 13 and 14 of 40 images. A net with BatchNorm.
SETS = (
    "model.name=tiny",
    "augment.image_size=32",
    "augment.resize=36",
    "augment.crop=random",
    "train.precision=fp32",
    "train.split_batches=true",
    f"train.epochs={EPOCHS}",
    "train.seed=5",
    "train.checkpoint_every_steps=2",
    "train.log_every_steps=1",
    "data.threads=1",
    "data.executor=host",
    "optimizer.lr=0.02",
)
MODULE = ("-m", "tests.train.machine.recorded")


def _options(shapes: Path, run: Path, batch_size: int) -> list[str]:
    recipe = run.parent / "plain.toml"  # the defaults, as in `_check`
    recipe.write_text('description = "plain"\n')
    sets = [word for text in (*SETS, f"train.batch_size={batch_size}") for word in ("--set", text)]
    return [str(shapes), "--recipe", str(recipe), "--out", str(run), "--auto-resume", *sets]


def _check(
    shapes: Path, run: Path, folder: Path, batch_size: int, processes: Sequence[int]
) -> None:
    """The run equals an undisturbed one of a single process, and was done by `processes`."""
    order = EpochOrder(IMAGES, batch_size, seed=5)
    length = order.num_batches
    seen = steps_seen(folder)
    for (_, step), indices in seen.items():
        epoch, number = divmod(step - 1, length)
        assert indices == order.batch(epoch, number * batch_size).tolist()
    assert {step for _, step in seen} == set(range(1, EPOCHS * length + 1))
    assert {many for many, _ in seen} == set(processes)
    alone = folder / "alone"
    config = resolve(None, [*SETS, f"train.batch_size={batch_size}"])
    fit(config, shapes, alone, device="cpu", quiet=True)
    for kind, names in (("step", ("loss",)), ("epoch", ("train_loss", "val_loss"))):
        one, many = read_metrics(alone, kind), read_metrics(run, kind)
        assert [line["step"] for line in many] == [line["step"] for line in one]
        for name in names:
            found, expected = [line[name] for line in many], [line[name] for line in one]
            # Rounding errors grow with the steps.
            for steps, bound in ((slice(0, length), 2e-4), (slice(None), 2e-3)):
                assert found[steps] == pytest.approx(expected[steps], abs=bound), name
    assert (run / "summary.json").is_file()


def test_the_same_command_continues_after_a_killed_process(
    shapes: Path, tmp_path: Path, trainer: Warm
) -> None:
    """20 and 21 images a process; the last 35 images of an epoch make no whole batch."""
    run, script = tmp_path / "run", Script(str(tmp_path), kill={"1": 4})
    words, given = _options(shapes, run, 41), {"variables": script.environment()}
    first, _ = forked(trainer, 2, MODULE[1], *words, codes=(1, -signal.SIGKILL), **given)()
    assert "batch 41 of all processes together" in first.stderr
    assert "process 0 of 2 lost the others" in first.stderr
    again, _ = forked(trainer, 2, MODULE[1], *words, **given)()
    assert "continuing after step 2, epoch 1 of 3" in again.stderr
    _check(shapes, run, tmp_path, 41, [2])


@pytest.mark.slow
def test_torchrun_replaces_a_killed_process(shapes: Path, tmp_path: Path) -> None:
    """--max-restarts: the command runs again, and continues the run."""
    run, script = tmp_path / "run", Script(str(tmp_path), kill={"1": 4})
    process = torchrun(
        2,
        *MODULE,
        *_options(shapes, run, 41),
        options=("--standalone", "--max-restarts=1"),
        environment=script.environment(),
    )
    _, errors = finish(process)
    assert "batch 41 of all processes together" in errors
    assert "process 0 of 2 lost the others" in errors
    assert "continuing after step 2, epoch 1 of 3" in errors
    _check(shapes, run, tmp_path, 41, [2])


@pytest.mark.slow
def test_one_of_three_is_killed_then_two_continue_then_four(shapes: Path, tmp_path: Path) -> None:
    run, arguments = tmp_path / "run", (*MODULE, *_options(shapes, tmp_path / "run", 40))

    def ended_by_a_kill(num: int, rank: str, step: int) -> str:
        script = Script(str(tmp_path), kill={rank: step})
        process = torchrun(num, *arguments, environment=script.environment())
        _, errors = process.communicate()
        assert process.returncode == 1, errors
        assert errors.count("lost the others: one of them has died") == num - 1
        return errors

    ended_by_a_kill(3, "1", 4)
    errors = ended_by_a_kill(2, "0", 9)
    assert "changed: 2 processes, 3 before\n" in errors  # the global batch has not changed
    assert "continuing after step 2, epoch 1 of 3" in errors
    _, errors = finish(torchrun(4, *arguments, environment=Script(str(tmp_path)).environment()))
    assert "continuing after step 8, epoch 2 of 3" in errors
    _check(shapes, run, tmp_path, 40, [2, 3, 4])
    # The same command again: nothing is left to do.
    _, errors = finish(torchrun(2, *arguments, environment=Script(str(tmp_path)).environment()))
    assert "nothing is left to train" in errors


@pytest.mark.slow
def test_agents_come_and_go(shapes: Path, tmp_path: Path) -> None:
    """Three torchruns of one process each, as on three machines. One of them is killed, which ends
    its process; the two others continue. Then one more joins."""
    run = tmp_path / "run"
    hold = {"6": 3, "8": 3, "12": 2, "15": 3}
    script = Script(str(tmp_path), kill_parent={"B": 9}, hold=hold)
    options = [
        "--nnodes=1:3", "--max-restarts=9", "--rdzv-backend=c10d", "--rdzv-id=test",
        f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-conf=last_call_timeout=5",
        "--local-addr=127.0.0.1",
    ]  # fmt: skip
    agents: dict[str, subprocess.Popen[str]] = {}

    def start(name: str) -> None:
        with (tmp_path / f"{name}.log").open("w") as log:
            agents[name] = subprocess.Popen(
                [
                    sys.executable, "-m", "torch.distributed.run", *options, "--nproc-per-node=1",
                    *MODULE, *_options(shapes, run, 40),
                ],
                stdout=log, stderr=log, text=True,
                env={
                    **os.environ, "OMP_NUM_THREADS": "1", "AGENT": name, **script.environment(),
                    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
                },
            )  # fmt: skip

    try:
        start("A")  # the others meet at its port
        wait_for(agents["A"], lambda: any((run / "checkpoints").glob("*.pt")))
        start("B")
        start("C")
        wait_for(
            agents["A"],
            lambda: any(many == 2 and step >= 12 for many, step in steps_seen(tmp_path)),
        )
        assert agents["B"].wait() == -9
        start("D")
        for name in "ACD":
            assert agents[name].wait() == 0, (tmp_path / f"{name}.log").read_text()
    finally:
        for agent in agents.values():
            agent.kill()
    seen = steps_seen(tmp_path)
    assert {1, 2, 3} >= {many for many, _ in seen} >= {2, 3}
    _check(shapes, run, tmp_path, 40, sorted({many for many, _ in seen}))
    logs = "".join((tmp_path / f"{name}.log").read_text() for name in "ABCD")
    assert "stopped after step" in logs  # the process of B wrote a checkpoint with the others
