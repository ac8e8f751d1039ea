"""Several runs of the command train, one after the other in the same processes.

In: JSON, the arguments of each run. Out: the runs. This program is started as torchrun starts
train; its start and the imports take longer than the small runs of tests. The runs draw no figures.
"""

from __future__ import annotations

import json
import sys

from slipform.train.cli import train
from slipform.train.run import finish

if __name__ == "__main__":
    finish._draw = lambda *_: None
    for arguments in json.loads(sys.argv[1]):
        train(arguments, standalone_mode=False)
