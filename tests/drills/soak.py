"""A consumer of a loader that gets exceptions at random moments, for a given time.

In: a dataset folder, an executor, seconds, a seed, as arguments. Out: one line of JSON: the number
of exceptions, the number of compared batches, and the faults. It runs in its own process: an
exception can occur anywhere, also in the finalizers of the interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import random
import sys
import threading
import time
from typing import Any

import torch

from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation

EPOCHS = 3
AUGMENTATION = Augmentation(image_size=16, crop="random_resized", flip="horizontal")


class Thrown(BaseException):
    """As KeyboardInterrupt."""


def _loader(folder: str, executor: str, prefetch: int = 0) -> Loader:
    """With 0, several batches are made together, which `_undisturbed` makes one by one."""
    return Loader(
        folder, augment=AUGMENTATION, batch_size=5, executor=executor, threads=2, prefetch=prefetch
    )


def _undisturbed(folder: str, executor: str) -> dict[tuple[int, int], list[torch.Tensor]]:
    found = {}
    with _loader(folder, executor, prefetch=2) as loader:
        for _ in range(EPOCHS):
            loop = iter(loader)
            for _ in range(len(loader)):
                position = (loader.epoch, loader.seen)
                batch = next(loop)
                found[position] = [
                    batch.images.clone(),
                    batch.labels.clone(),
                    batch.indices.clone(),
                ]
    return found


class Consumer(threading.Thread):
    """Takes batches. The other thread may raise an exception here while `open_to_throw` is set."""

    def __init__(self, folder: str, executor: str, seconds: float, seed: int) -> None:
        super().__init__()
        self._folder, self._executor, self._seconds = folder, executor, seconds
        self._chance = random.Random(seed)
        self._want = _undisturbed(folder, executor)
        self.open_to_throw, self.throwing = False, threading.Lock()
        self.finished = False
        self.hits, self.compared, self.reopened = 0, 0, 0
        self.wrong: list[str] = []

    def run(self) -> None:
        """Loop, get interrupted and compare, until the time is over or a fault is found."""
        end = time.monotonic() + self._seconds
        loader = _loader(self._folder, self._executor)
        done = False
        while not (done or self.wrong):  # any speed: it does less, but not nothing
            done = bool(time.monotonic() >= end and self.hits and self.compared)
            loader.set_epoch(self._chance.randrange(EPOCHS - 1))
            try:
                self._be_interrupted(loader)
            except Thrown:
                self.hits += 1
            self._close_to_throw()
            try:
                self._compare(loader)
            except Exception as error:
                # An exception leaves the loader exact or closed.
                if "closed" not in str(error):
                    self.wrong.append(f"{type(error).__name__}: {error}")
                self.reopened += 1
                loader = _loader(self._folder, self._executor)
        loader.close()
        self.finished = True

    def _close_to_throw(self) -> None:
        """No exception is raised after this call. One that was already sent is raised in it."""
        while True:
            with contextlib.suppress(Thrown):
                with self.throwing:
                    self.open_to_throw = False
                    time.sleep(0)
                return

    def _be_interrupted(self, loader: Loader) -> None:
        """Python drops an exception that is raised in a finalizer. Another one is then sent."""
        while True:
            self.open_to_throw = True
            due = time.monotonic() + 1
            while time.monotonic() < due:
                for _ in loader:
                    if loader.epoch >= EPOCHS - 1:
                        loader.set_epoch(0)
                        break

    def _compare(self, loader: Loader) -> None:
        for _ in range(4):
            position = (loader.epoch, loader.seen)
            if position not in self._want:
                loader.set_epoch(0)
                position = (0, 0)
            batch = next(iter(loader))
            want = self._want[position]
            for name, got, known in zip(
                ("images", "labels", "indices"), (batch.images, batch.labels, batch.indices), want,
                strict=True,
            ):  # fmt: skip
                if not torch.equal(got, known):
                    self.wrong.append(f"{name} of the batch at {position} after {self.hits} hits")
            self.compared += 1


def main() -> dict[str, Any]:
    """The drill; see the module's docstring."""
    folder, executor, seconds, seed = sys.argv[1:]
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(float(seconds) + 300, exit=True)  # a loader that hangs
    consumer = Consumer(folder, executor, float(seconds), int(seed))
    chance = random.Random(int(seed) + 1)
    consumer.start()
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    while consumer.is_alive():
        time.sleep(chance.uniform(0, 0.03))
        with consumer.throwing:
            if consumer.open_to_throw and consumer.ident is not None:
                consumer.open_to_throw = False
                throw(ctypes.c_ulong(consumer.ident), ctypes.py_object(Thrown))
    if not consumer.finished:
        consumer.wrong.append("the consumer ended early")
    return {
        "executor": executor,
        "thrown": consumer.hits,
        "compared": consumer.compared,
        "reopened": consumer.reopened,
        "wrong": consumer.wrong,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
