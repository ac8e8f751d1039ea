"""A beton that is truncated while a loader has it open: no silent SIGBUS, and no pixels of the
missing part."""

from __future__ import annotations

import os
import re
import signal
from itertools import product
from pathlib import Path

import pytest

from slipform.pipelines import bus_error
from slipform.pipelines.bus_error import Truncated
from slipform.pipelines.errors import DatasetError
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.rendering.pool import RenderPool
from tests.pipelines import folders
from tests.pipelines.epochs import ON_CPU as NAMES
from tests.pipelines.epochs import small_loader
from tests.pipelines.meanwhile import between_lines
from tests.warm import Warm


@pytest.mark.parametrize("executor", ["dali", "host"])
def test_a_beton_truncated_while_open(folder: Path, executor: str) -> None:
    with small_loader(folder, executor, prefetch=1) as loader:
        loop = iter(loader)
        next(loop)
        os.truncate(folder / "train.beton", 3000)
        with pytest.raises(DatasetError, match="truncated while it was open"):
            next(loop)


@pytest.mark.parametrize("executor", NAMES)
def test_a_batch_of_a_beton_that_is_truncated_meanwhile_is_not_handed_out(
    tmp_path: Path, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the last page is read as zeros, and checksums are compared only once."""
    images = [folders.smooth(30, 20 + k, seed=k) for k in range(12)]
    beton = folders.write_folder(tmp_path / "set", images) / "train.beton"

    def cut() -> None:
        os.truncate(beton, os.path.getsize(beton) - 1)

    spec = Augmentation(image_size=16, resize=18)
    with Loader(
        beton.parent, augment=spec, batch_size=4, executor=executor, prefetch=1, threads=2
    ) as loader:
        list(loader)
        loop = iter(loader)
        next(loop)  # no batch is under way
        used = loader.sequence.ahead.executor
        # The file is cut in the thread that renders; for dali, before its batch is collected.
        owner, name = (used, "collect") if executor == "dali" else (RenderPool, "_wait_for_buffer")
        before = getattr(owner, name)

        def cut_before(*arguments: object) -> object:
            cut()
            return before(*arguments)

        monkeypatch.setattr(owner, name, cut_before)
        with pytest.raises(DatasetError, match="truncated while it was open"):
            next(loop)


_CUT_SHORT_MEANWHILE = """
import os, sys
from slipform.pipelines.beton import Beton
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
loader = Loader(sys.argv[1], augment=Augmentation(image_size=16, resize=18), batch_size=4,
                executor=sys.argv[2], threads=2, training=False)
Beton.check_length = lambda beton, files=None: os.truncate(beton.path, 0)
list(loader)
"""
QUICK = [("jpeg", "dali"), ("jpeg", "host"), ("raw", "host")]


@pytest.mark.parametrize(
    ("stored", "executor"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in product(("jpeg", "raw"), NAMES)
    ],
)
def test_a_beton_truncated_during_a_batch(
    tmp_path: Path, executor: str, stored: str, warm_process: Warm
) -> None:
    """The file is truncated after the check of its length and before the read: SIGBUS."""
    images = [folders.smooth(30, 20 + k, seed=k) for k in range(12)]
    stored_images = [folders.jpeg(x) for x in images] if stored == "jpeg" else images
    folder = folders.write_folder(tmp_path / "set", stored_images)
    ended = warm_process.run(_CUT_SHORT_MEANWHILE, folder, executor)
    if stored == "jpeg" and executor == "resident":  # it decoded the images before
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return
    assert ended.returncode == 1, ended
    assert re.search(r"train\.beton was truncated while it was read: 0 of \d+", ended.stderr)


def test_an_existing_signal_handler_is_kept(folder: Path, warm_process: Warm) -> None:
    """The handler of faulthandler prints the stacks of all threads."""
    program = f"import faulthandler\nfaulthandler.enable()\n{_CUT_SHORT_MEANWHILE}"
    ended = warm_process.run(program, folder, "host")
    assert ended.returncode < 0
    assert "Bus error" in ended.stderr


def test_an_error_while_the_file_is_looked_for_ends_the_process(
    folder: Path, warm_process: Warm
) -> None:
    """The read is repeated after the handler, and must not call it again without end."""
    fails = "from slipform.pipelines.mapped_files import MappedFiles\n"
    fails += "MappedFiles.truncated = lambda *_: 1 // 0\n"
    program = _CUT_SHORT_MEANWHILE.replace("list(loader)", f"{fails}list(loader)")
    ended = warm_process.run(program, folder, "host")
    assert ended.returncode == -signal.SIGBUS, ended  # 1 if the file was found


class Mapped:
    """Mapped files, of which a part may have been truncated."""

    def __init__(self, cut: Truncated | None = None) -> None:
        self._cut = cut

    def truncated(self) -> Truncated | None:
        return self._cut


def test_files_may_be_opened_while_the_file_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By other threads, at any moment."""
    monkeypatch.setattr(bus_error, "_watched", set())
    opened = [Mapped()]

    def open_one() -> None:
        if len(opened) < 1000:
            opened.append(Mapped())
            bus_error.watch(opened[-1])

    bus_error.watch(opened[0])
    with between_lines(open_one):
        found = bus_error._first_cut()
    assert found is None
    assert len(opened) > 1
    cut = Truncated(Path("a.beton"), 0, 5)
    opened.append(Mapped(cut))
    bus_error.watch(opened[-1])
    found = bus_error._first_cut()
    assert found == cut
    opened.clear()
    assert not bus_error._watched, "they are not kept any longer"
