"""Sweeps of tests: a recipe of short runs, the command `train`, and runs without new processes.

In: arguments. Out: the result of the command.
"""

from __future__ import annotations

from click.testing import CliRunner, Result

from slipform.train import cli
from slipform.train.sweep.jobs import Job

__all__ = ["InThisProcess", "run_train", "settings"]


def settings(epochs: int, data: str = "") -> str:
    """The settings of a recipe: a tiny net at 32 px, six steps in an epoch.

    Args:
        epochs: train.epochs.
        data: Further keys of [data].
    """
    return f"""
augment = {{ image_size = 32, resize = 40, crop = "random" }}
model = {{ name = "tiny", options = {{ width = 8 }} }}
optimizer = {{ name = "sgd", lr = 0.05, momentum = 0.9 }}
train = {{ epochs = {epochs}, batch_size = 40, precision = "fp32", log_every_steps = 4 }}
data = {{ threads = 1, executor = "host"{data and ", " + data} }}
"""


def run_train(*arguments: object) -> Result:
    """The command `train`."""
    return CliRunner().invoke(cli.train, [str(argument) for argument in arguments])


class InThisProcess:
    """Replaces subprocess.Popen for a sweep, without the seconds that a new process takes to import
    torch."""

    def __init__(self, job: Job, arguments: list[str], cores: set[int]) -> None:
        result = run_train(*arguments)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text(result.output)
        self.returncode = result.exit_code

    def poll(self) -> int:
        return self.returncode
