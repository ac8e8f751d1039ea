"""torch's global settings for a run. Setting them to their present values is fast."""

from __future__ import annotations

from tests.warm import Warm

CODE = """
import sys
import torch
from slipform.train.config.sections import TrainConfig
from slipform.train.machine.device import set_up

set_up(TrainConfig(), torch.device("cpu"))
print(torch.are_deterministic_algorithms_enabled(), "torch._inductor" in sys.modules)
"""


def test_unchanged_settings_do_not_import_torch_s_compiler(warm_process: Warm) -> None:
    """In a process that has not imported it: torch.use_deterministic_algorithms would do so, which
    takes a second."""
    done = warm_process.run(CODE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False False\n"
