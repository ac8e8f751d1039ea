"""One machine in place of a cluster: a job that is stopped by a signal and started again.

In: the command of a launch text, and the variables that its cluster sets. Out: the run. Scripts
take the place of srun, scancel and scontrol, and `slipform train` is the program `recorded`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from slipform.train.run import checkpoint
from slipform.train.run.best import load_best
from tests.processes import finish, wait_for
from tests.train.machine.recorded import Script, steps_seen

__all__ = ["SETS", "Job", "free_port"]

# A run of two processes with 6 steps in each of 4 epochs.
SETS = (
    "model.name=tiny",
    "augment.image_size=32",
    "augment.resize=36",
    "augment.crop=random",
    "train.precision=fp32",
    "train.batch_size=40",
    "train.split_batches=true",
    "train.epochs=4",
    "train.seed=5",
    "data.threads=1",
    "data.executor=host",
    "optimizer.lr=0.02",
)
_ROOT = Path(__file__).resolve().parents[3]
_STANDINS = {
    "slipform": f'shift; exec {sys.executable} -m tests.train.machine.recorded "$@"',
    "srun": 'echo $$ > "$FOLDER/step"; exec "$@"',
    # Slurm sends a signal to all processes of a step: those of torchrun, and torchrun itself.
    "scancel": """
step=$(cat "$FOLDER/step")
echo "$@" >> "$FOLDER/scancel.log"
for pid in $(cat /proc/$step/task/*/children) $step; do kill -s "${1#--signal=}" $pid; done
""",
    "scontrol": """
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$FOLDER/scontrol.log"; fi
""",
}


def free_port(first: int = 0) -> int:
    """A port that nobody uses: the first one from `first` on; 0: any."""
    for port in range(first, first + 1000):
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(free.getsockname()[1])
    pytest.fail("no free port")


class Job:
    """The starts of a job.

    Args:
        folder: A folder for this job.
        command: The command of each start.
        variables: Those that the cluster sets.
    """

    def __init__(self, folder: Path, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._folder, self._command = folder, command
        programs = folder / "programs"
        programs.mkdir()
        for name, text in _STANDINS.items():
            (programs / name).write_text(f"#!/bin/bash\n{text.strip()}\n")
            (programs / name).chmod(0o755)
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(_ROOT),
            "FOLDER": str(folder),
            # Both processes wait before step 8, until they are asked to stop.
            **Script(str(folder), hold={"8": 3}).environment(),
            **variables,
        }

    def start(self) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=self._environment,
        )

    def stop_and_continue(self, run: Path, stop: signal.Signals, undisturbed: Path) -> int:
        """Stop the first start in epoch 2. The second start ends the run, like an undisturbed one.

        Args:
            run: The run folder.
            stop: The signal that the first start gets.
            undisturbed: A run to compare with.

        Returns:
            The exit code of the first start.
        """
        process = self.start()
        wait_for(process, lambda: (2, 7) in steps_seen(self._folder))
        process.send_signal(stop)
        _, errors = process.communicate()
        assert "stopped after step" in errors, errors
        assert not (run / "summary.json").exists()
        newest = checkpoint.step_of(checkpoint.checkpoints(run)[0])
        assert 8 <= newest < 12  # in the middle of epoch 2
        _, more = finish(self.start())
        assert f"continuing after step {newest}, epoch 2 of 4" in more
        expected, found = load_best(undisturbed), load_best(run)
        assert all(torch.equal(expected[name], found[name]) for name in expected)
        return process.returncode
