"""After an exception at any point of `next(loader)`, the next batches are those of an undisturbed
loader."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.pipelines.meanwhile import traced

SPEC = Augmentation(image_size=16, crop="random_resized", flip="horizontal")
ROOT = str(Path(__file__).resolve().parents[2])
Position = tuple[int, int]
Content = tuple[list[int], list[int], torch.Tensor]


def _loader(folder: Path, executor: str, **options: Any) -> Loader:
    options = {"batch_size": 24, "threads": 2, "augment": SPEC} | options
    return Loader(folder, options.pop("split", "train"), executor=executor, **options)


def _undisturbed(folder: Path, **options: Any) -> dict[Position, Content]:
    """The batch at each position of three epochs."""
    found = {}
    with _loader(folder, "resident", **options) as loader:
        for _ in range(3):
            loop = iter(loader)
            for _ in range(len(loader)):
                position = (loader.epoch, loader.seen)
                batch = next(loop)
                found[position] = (batch.indices.tolist(), batch.labels.tolist(), batch.images)
    return found


def _compare(loader: Loader, want: dict[Position, Content], count: int = 4) -> None:
    """Check that the next batches are those at the loader's position."""
    expected = [key for key in want if key >= (loader.epoch, loader.seen)][:count]
    taken = 0
    while taken < count:
        for batch in loader:
            indices, labels, images = want[expected[taken]]
            assert batch.indices.tolist() == indices
            assert batch.labels.tolist() == labels
            off = (batch.images - images).abs() * 255 / 2
            assert off.mean() <= 1
            assert (off <= 4).float().mean() >= 0.99
            taken += 1
            if taken == count:
                return


class _Injected(BaseException):
    """Like KeyboardInterrupt, which would end pytest."""


@contextmanager
def _raising_at(number: int, reached: list[str]) -> Iterator[None]:
    """Raise at the `number`-th line of the package on this thread. `reached` is that line."""
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        file = frame.f_code.co_filename
        if "/pipelines/" not in file or file.startswith(f"{ROOT}/tests/"):
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                reached.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            if left == 0:
                raise _Injected
        return trace

    with traced(trace):
        yield


def _count_lines(loader: Loader) -> int:
    """The number of lines in the part with the exception."""
    lines: list[str] = []
    _injected_part(loader, -1, lines)
    return len(lines)


def _injected_part(loader: Loader, number: int, reached: list[str]) -> None:
    with _raising_at(number, reached):
        loop = iter(loader)
        for _ in range(2):
            next(loop)


# Every n-th of the points: all of them, or a sample in the default suite.
STEPS = [3, pytest.param(1, marks=pytest.mark.slow)]
# The threads of "resident" are those of "host".
EXECUTORS = [pytest.param(x, marks=pytest.mark.slow if x == "resident" else ()) for x in NAMES]
QUICK = [("host", True), ("resident", False), ("dali", True)]


@pytest.mark.parametrize(
    ("executor", "reuse_buffers"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in product(NAMES, (True, False))
    ],
)
@pytest.mark.parametrize("step", STEPS)
def test_an_exception_at_any_line(
    shapes: Path, executor: str, reuse_buffers: bool, step: int, no_collections: None
) -> None:
    """Evenly spaced lines of three steps. There are fewer for `dali`, whose recovery builds
    graphs."""
    points = {"dali": 12, "resident": 150}.get(executor, 60) // step
    want = _undisturbed(shapes)
    reached: list[str] = []
    with _loader(shapes, executor, reuse_buffers=reuse_buffers) as loader:
        next(iter(loader))
        total = _count_lines(loader)
        assert total > 50
        reached.clear()
        for number in range(1, total + 1, max(1, total // points)):
            loader.set_epoch(number % 2)
            next(iter(loader))
            with suppress(_Injected):  # a part that begins elsewhere may have fewer lines
                _injected_part(loader, number, reached)
            _compare(loader, want)
    assert len(set(reached)) >= points // 3


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("error", [RuntimeError, _Injected])
def test_an_exception_in_a_part(
    shapes: Path, executor: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the loader, the executor or one of its threads, once or twice in a row."""
    from slipform.pipelines import sequence, submitter
    from slipform.pipelines.decoding.integrity import FirstRead
    from slipform.pipelines.rendering.pool import RenderPool

    want = _undisturbed(shapes)
    generator = random.Random(3)
    with _loader(shapes, executor) as loader:
        own = type(loader._executor)
        for place, name in (
            (submitter, "draw"),
            (sequence, "upload"),
            (sequence, "draw_mix"),
            (own, "submit"),
            (own, "collect"),
            (own, "reset"),
            (FirstRead, "bad"),
            (RenderPool, "_renderer"),
            (RenderPool, "_on_device"),
            (RenderPool, "_new_batch"),
        ):
            original, left = getattr(place, name), generator.randrange(1, 4)

            def fails(*args: Any, original: Any = original, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left in (0, -1):
                    raise error("injected")
                return original(*args, **kwargs)

            loader.set_epoch(0)
            with monkeypatch.context() as patch:
                patch.setattr(place, name, fails)
                for _ in range(8):
                    try:
                        for _ in loader:
                            if loader.seen >= 72:
                                break
                    except error:
                        continue
            _compare(loader, want)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_at_any_moment(shapes: Path, executor: str, step: int, no_collections: None) -> None:
    """Real signals at random moments during a loop over the loader."""
    import signal

    want = _undisturbed(shapes)
    generator = random.Random(7)
    with _loader(shapes, executor) as loader:
        hits = 0
        for _ in range((12 if executor == "dali" else 60) // step):
            loader.set_epoch(generator.randrange(2))
            try:
                while True:
                    # Repeat if Python dropped the exception, as it does in a finalizer.
                    signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-4, 0.02))
                    due = time.monotonic() + 0.5
                    while time.monotonic() < due:
                        for _ in loader:
                            if loader.epoch > 1:
                                loader.set_epoch(0)
                                break
            except _Injected:
                hits += 1
            _compare(loader, want, 3)
        assert hits


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_ctrl_c_inside_a_compiled_function_is_no_system_error(
    shapes: Path, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    """numba's dispatcher returns a result with an exception set. Python turns this into another
    exception."""
    from slipform.pipelines import submitter

    def fails(*_: Any) -> None:
        error: BaseException = _Injected()
        for _level in range(depth):
            error, error.__cause__ = SystemError("returned a result with an exception set"), error
        raise error

    want = _undisturbed(shapes)
    with _loader(shapes, "resident") as loader:
        with monkeypatch.context() as patch:
            patch.setattr(submitter, "draw", fails)
            with pytest.raises(_Injected):
                next(iter(loader))
        _compare(loader, want)


@pytest.fixture(autouse=True)
def _alarm_is_an_interrupt() -> Iterator[None]:
    import signal

    def interrupt(*_: Any) -> None:
        raise _Injected

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
