"""After any fault during prep, the old or the new dataset is complete. Errors come soon, and no run
hangs."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.build import build_dataset
from slipform.preprocess.cli import main
from slipform.preprocess.encode import Encoding
from slipform.preprocess.source import Arrays, Files, Generated, SampleSource
from slipform.preprocess.verify import find_faults
from tests.processes import wait_for

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def dataset(name: str = "made", num: int = 3000) -> SampleSource:
    images = np.random.default_rng(len(name)).integers(0, 256, (num, 24, 24, 3), np.uint8)
    return SampleSource(
        name, list("abc"), {"train": Arrays(images, np.arange(num, dtype=np.int64) % 3, "made")}, ""
    )


def generated(make: Callable[[int], bytes | np.ndarray], num: int = 2000) -> SampleSource:
    return SampleSource(
        "made", ["a"], {"train": Generated(make, np.zeros(num, np.int64), "made")}, ""
    )


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    """A folder with a dataset. The dataset must be there, complete and without other files, after
    the test."""
    out = tmp_path / "data"
    build_dataset(dataset("old", 300), out)
    yield out
    manifest = read_manifest(out)
    assert manifest.dataset == "old"
    assert list(find_faults(out, manifest)) == []
    assert os.listdir(tmp_path) == ["data"]


@pytest.mark.parametrize("rounds", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path: Path, rounds: int) -> None:
    script = Path(__file__).with_name("kill_loop.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(rounds)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = done.stdout.split()
    assert len(outcomes) == rounds
    assert {"old", "new"} == set(outcomes)  # moments before and after the exchange


def test_a_vanished_file_is_an_error(
    old: Path, tmp_path_factory: pytest.TempPathFactory, shapes: Path
) -> None:
    from slipform.pipelines.beton import Beton

    raw = tmp_path_factory.mktemp("raw")
    beton = Beton(shapes / "train.beton")
    for index in range(100):
        (raw / f"{index}.jpg").write_bytes(beton.bytes_of(index).tobytes())
    files = Files(raw, [f"{index}.jpg" for index in range(100)], np.zeros(100, np.int64))
    (raw / "60.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"60\.jpg"):
        build_dataset(SampleSource("made", ["a"], {"train": files}, ""), old)


@pytest.mark.parametrize("error", [MemoryError, SystemExit, KeyboardInterrupt, RuntimeError])
def test_a_failing_worker_stops_the_others(old: Path, error: type[BaseException]) -> None:
    calls = []

    def make(index: int) -> np.ndarray:
        calls.append(index)
        if index == 40:
            raise error("worker failed")
        time.sleep(0.01)  # all of these would take 1,000 s on two threads
        return np.zeros((20, 20, 3), np.uint8)

    with pytest.raises(error):
        build_dataset(generated(make, 200_000), old, threads=2)
    assert len(calls) < 100_000


def test_a_crash_of_a_decoder_ends_the_run_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    build_dataset(dataset("old", 300), tmp_path / "data")
    script = (
        "import os, sys\nfrom pathlib import Path; import numpy as np\nfrom"
        " slipform.preprocess.build import build_dataset; from slipform.preprocess.source import"
        " Generated, SampleSource\nmake = lambda i: os.kill(os.getpid(), 11) if i == 500 else"
        " np.zeros((20, 20, 3), np.uint8)\nsamples = Generated(make, np.zeros(2000, np.int64),"
        " 'made')\nbuild_dataset(SampleSource('made', ['a'], {'train': samples}, ''),"
        " Path(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "data")], env=ENVIRONMENT)
    assert done.returncode == -signal.SIGSEGV
    assert read_manifest(tmp_path / "data").dataset == "old"
    assert ".data.prep" in os.listdir(tmp_path)
    build_dataset(dataset("new", 300), tmp_path / "data")
    assert os.listdir(tmp_path) == ["data"]


def test_a_file_that_cannot_grow_is_an_error(old: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            build_dataset(dataset(), old, Encoding("raw"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        build_dataset(dataset("old", 300), disk / "data")
        sizes = ["--num-train", "3000", "--min-size", "64", "--max-size", "64", "--encoding", "raw"]
        result = CliRunner().invoke(main, ["shapes", "--out", str(disk / "data"), *sizes])
        assert result.exit_code == 1
        assert "No space left on device" in result.output
        assert os.listdir(disk) == ["data"]
        assert list(find_faults(disk / "data", read_manifest(disk / "data"))) == []
        assert "mount point" in CliRunner().invoke(main, ["shapes", "--out", str(disk)]).output
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_runs_to_one_folder(old: Path) -> None:
    from slipform.preprocess.atomic_folder import replacing

    with replacing(old) as folder:
        with pytest.raises(DatasetError, match="another prep"):
            build_dataset(dataset(), old)
        for path in old.iterdir():  # restores the same dataset
            (folder / path.name).write_bytes(path.read_bytes())


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match=r"thesis\.txt"):
        build_dataset(dataset(), tmp_path / "home")
    assert (tmp_path / "home/thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="is a file"):
        build_dataset(dataset(), tmp_path / "file")


@pytest.mark.parametrize(
    "name", ["my-report.txt", "old-dataset.json", "mine.beton", "train.beton", "rejected.csv"]
)
def test_files_with_names_like_ours_are_not_deleted(tmp_path: Path, name: str) -> None:
    """Files beside betons of stock ffcv, and files with other names in a dataset of Slipform."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / name).write_text("years of work")
    with pytest.raises(DatasetError, match=name):
        build_dataset(dataset(), tmp_path / "home")
    assert (tmp_path / "home" / name).read_text() == "years of work"
    build_dataset(dataset("old", 300), tmp_path / "data")
    if not (tmp_path / "data" / name).exists() and name != "rejected.csv":
        (tmp_path / "data" / name).write_text("years of work")
        with pytest.raises(DatasetError, match=name):
            build_dataset(dataset(), tmp_path / "data")
        assert (tmp_path / "data" / name).read_text() == "years of work"


def test_a_dataset_is_replaced_as_a_whole(tmp_path: Path) -> None:
    build_dataset(dataset("first"), tmp_path / "data")
    build_dataset(dataset("second", 100), tmp_path / "data")
    assert read_manifest(tmp_path / "data").dataset == "second"
    assert os.listdir(tmp_path) == ["data"]


def test_a_link_as_out_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk/data")  # the target of the link does not exist yet
    for name, num in (("first", 300), ("second", 100), ("third", 200)):
        build_dataset(dataset(name, num), tmp_path / "data")
        assert (tmp_path / "data").is_symlink()
        assert read_manifest(tmp_path / "disk/data").dataset == name
        assert sorted(os.listdir(tmp_path)) == ["data", "disk"]
        assert os.listdir(tmp_path / "disk") == ["data"]


def test_a_folder_that_cannot_be_made_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def mkdir(path: Path, *arguments: int, **options: bool) -> None:
        if path.name == ".data.prep":
            raise OSError(28, "No space left on device", str(path))
        real(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OSError, match="No space"):
        build_dataset(dataset(), tmp_path / "data")
    assert os.listdir(tmp_path) == []


def test_an_error_in_closing_the_lock_file_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset is already complete at that time."""
    real, failed = os.close, []

    def close(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        real(handle)
        if ".prep.lock" in path:
            failed.append(path)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "close", close)
    build_dataset(dataset(), tmp_path / "data")
    assert failed
    assert os.listdir(tmp_path) == ["data"]


def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "slipform.preprocess.cli",
        "shapes",
        "--out",
        str(tmp_path / "data"),
        "--num-train",
        "200000",
    ]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        wait_for(process, (tmp_path / ".data.prep").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; import cv2; import numpy as np\n"
        "from slipform.preprocess.build import build_dataset\n"
        "from slipform.preprocess.source import Generated, SampleSource\n"
        "jpeg = lambda i: cv2.imencode('.jpg', np.full((64, 48 + i % 40, 3), i % 251,"
        " np.uint8))[1].tobytes()\n"
        "labels = np.arange(200000, dtype=np.int64) % 10\n"
        "source = SampleSource('made', list('0123456789'), {'train': Generated(jpeg, labels,"
        " 'made')}, '')\n"
        "build_dataset(source, Path(sys.argv[1]), threads=2)\n"
        # VmHWM: ru_maxrss would include the memory of the parent at the time of the fork
        "print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1000)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_manifest(tmp_path / "data").splits["train"].num_samples == 200_000
    assert int(done.stdout) < 600  # MB
