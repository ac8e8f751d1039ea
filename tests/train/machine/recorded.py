"""The command train, which also writes down what each step saw. Some steps wait, or kill.

In: the arguments of train, and a `Script` as JSON in the environment variable SCRIPT. Out: a file
for each process in the folder of the script, with a line for each step. `steps_seen` reads them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipform.train.machine.interrupt import StopRequest

__all__ = ["Script", "main", "steps_seen"]

Seen = dict[tuple[int, int], list[int]]  # (processes, step) -> indices of the global batch


@dataclass(frozen=True)
class Script:
    """What happens to the processes of a run.

    Attributes:
        folder: The folder for the files.
        kill: Rank -> the step after which the process of that rank kills itself, once.
        kill_parent: Name of a torchrun (its environment variable AGENT) -> the step after which it
            is killed.
        hold: Step -> the number of processes without which no process begins it, unless it is asked
            to stop.
    """

    folder: str
    kill: dict[str, int] = field(default_factory=dict)
    kill_parent: dict[str, int] = field(default_factory=dict)
    hold: dict[str, int] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The environment of a process that follows this script."""
        return {"SCRIPT": json.dumps(asdict(self))}


def steps_seen(folder: Path) -> Seen:
    """The samples of each step that all of its processes have finished, in their order.

    A step that was done several times by as many processes must have seen the same samples.

    Args:
        folder: The folder of the script.
    """
    parts: dict[tuple[int, int], dict[int, list[int]]] = {}
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().split("\n")[:-1]:  # the last one may not be complete
            one = json.loads(line)
            ranks = parts.setdefault((one["processes"], one["step"]), {})
            assert ranks.setdefault(one["rank"], one["indices"]) == one["indices"]
    return {
        key: [index for rank in range(key[0]) for index in ranks[rank]]
        for key, ranks in parts.items()
        if len(ranks) == key[0]
    }


def main() -> None:
    """Train by the script."""
    from slipform.train.cli import train
    from slipform.train.run import finish, loop, steps

    script = Script(**json.loads(os.environ["SCRIPT"]))
    folder, stop = Path(script.folder), StopRequest()
    rank, processes = os.environ.get("RANK", "0"), int(os.environ.get("WORLD_SIZE", "1"))
    original, watched = steps.train_step, loop.watched  # type: ignore[attr-defined]

    @contextmanager
    def noted() -> Iterator[StopRequest]:
        nonlocal stop
        with watched() as stop:
            yield stop

    def recorded(state: Any, batches: Any, count: int = 1, *more: Any) -> Any:
        while script.hold.get(str(state.step + 1), processes) != processes and not stop.is_set():
            time.sleep(0.05)
        seen: list[int] = []

        def kept() -> Iterator[Any]:
            for _ in range(count):
                batch = next(batches)
                seen.extend(batch.indices.tolist())
                yield batch

        result = original(state, kept(), count, *more)
        line = {"step": state.step, "processes": processes, "rank": int(rank), "indices": seen}
        with (folder / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(f"{json.dumps(line)}\n")
        if script.kill.get(rank) == state.step and _first_time(folder / f"killed-{rank}"):
            os.kill(os.getpid(), signal.SIGKILL)
        agent = os.environ.get("AGENT", "")
        if script.kill_parent.get(agent) == state.step and _first_time(folder / f"killed-{agent}"):
            os.kill(os.getppid(), signal.SIGKILL)
            # The kernel now asks this process to stop. On a busy machine that takes longer than
            # some steps, and the others would wait in one of them, which nobody asks to stop.
            while not stop.is_set():
                time.sleep(0.01)
        return result

    steps.train_step = recorded  # type: ignore[assignment, attr-defined]
    loop.watched = noted  # type: ignore[attr-defined]
    finish._draw = lambda *_: None  # figures take longer than the training
    train()


def _first_time(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    main()
