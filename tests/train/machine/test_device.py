"""torch's global settings for a run. Setting them to their present values is fast."""

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


def test_unchanged_settings_do_not_import_torch_s_compiler() -> None:
    """In a new process. torch.use_deterministic_algorithms would import torch's compiler for a
    second."""
    command = [sys.executable, "-P", "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
