"""Torch's switches for a run: setting them costs nothing where they do not change."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import torch
from slipform.train.config.sections import TrainConfig
from slipform.train.machine.device import set_up

set_up(TrainConfig(), torch.device("cpu"))
print(torch.are_deterministic_algorithms_enabled(), "torch._inductor" in sys.modules)
"""


def test_switches_that_do_not_change_do_not_import_torch_s_compiler() -> None:
    """In a fresh process. torch.use_deterministic_algorithms imports it, which takes a second."""
    command = [sys.executable, "-P", "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
