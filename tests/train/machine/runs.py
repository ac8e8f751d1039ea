"""Several runs of the command train, one after the other in the same processes.

In: JSON, the arguments of each run. Out: the runs. torchrun starts this program as it starts train;
its start and the imports take longer than the small runs of tests.
"""

from __future__ import annotations

import json
import sys

from slipform.train.cli import train

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        train(arguments, standalone_mode=False)
