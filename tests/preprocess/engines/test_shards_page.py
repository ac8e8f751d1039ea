"""The commands of preprocess/shards.md run, with 2 shards instead of 64. Each gives the dataset of
one prep."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.prep import prepare
from tests.page_blocks import blocks
from tests.preprocess.engines.quick_prep import QuickPrep
from tests.preprocess.made import described
from tests.preprocess.sources import jpeg, write

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "preprocess/shards.md"
COUNT = 2

# `sbatch` as far as the page uses it. It runs the tasks of an array one after another.
SBATCH = r"""#!/bin/bash
status=0
case "$*" in
  --parsable*)
    array=$(sed -nE 's/^#SBATCH --array=([0-9]+)-([0-9]+)%.*/\1 \2/p' "$2")
    export SLURM_CPUS_PER_TASK=4 SLURM_ARRAY_TASK_COUNT=9
    for k in $(seq $array); do
      SLURM_ARRAY_TASK_ID=$k bash "$2" >&2 || status=1
    done
    echo $status > job-7; echo 7 ;;
  --dependency=afterok:7\ --wrap*)
    [ "$(cat job-7)" = 0 ] && bash -c "$3" ;;
  *) exit 2 ;;
esac
"""


def _blocks(language: str) -> list[str]:
    found = (block.text for block in blocks(PAGE) if block.language == language)
    return [text.replace("64", str(COUNT)) for text in found]


SHELL = _blocks("bash")


@pytest.fixture(scope="module")
def quick_prep() -> Iterator[QuickPrep]:
    with QuickPrep() as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path, quick_prep: QuickPrep) -> Path:
    """A folder with photos of two classes, the dataset of one prep as `whole`, and the command
    `prep`."""
    quick_prep.install(tmp_path / "bin")
    for number in range(24):
        write(tmp_path / f"photos/{'ab'[number % 2]}/{number}.jpg", jpeg(number) + bytes(number))
    prepare("images", source=tmp_path / "photos", out=tmp_path / "whole")
    return tmp_path


def _run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=800,
    )


def _check(done: subprocess.CompletedProcess[str], folder: Path, out: str = "data/photos") -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = read_manifest(folder / out)
    assert described(manifest) == described(read_manifest(folder / "whole"))
    assert len(manifest.split("train").shards) == COUNT


def _shell(text: str) -> str:
    """The one shell block that has a text."""
    (found,) = [block for block in SHELL if text in block]
    return found


@pytest.mark.parametrize("text", ["xargs", pytest.param("& done", marks=pytest.mark.slow)])
def test_the_shell(text: str, folder: Path) -> None:
    """With the installed command."""
    (folder / "bin/prep").unlink()
    _check(_run(["bash", "-euc", _shell(text)], folder), folder)


@pytest.mark.parametrize("text", ["xargs", pytest.param("& done", marks=pytest.mark.slow)])
def test_the_shell_ends_with_an_error_if_a_shard_fails(text: str, folder: Path) -> None:
    """The image and the shard are named."""
    write(folder / "photos/a/20.jpg", b"no image")
    done = _run(["bash", "-euc", _shell(text)], folder)
    assert done.returncode != 0
    logs = "".join(path.read_text() for path in (folder / "logs").glob("*"))
    assert "a/20.jpg" in done.stderr + logs
    assert not (folder / "data/photos/dataset.json").exists()
    merged = _run(["prep", "merge", "data/photos"], folder)
    assert merged.returncode == 1
    assert re.search(r"1 of 2 shards are not finished: [12]/2", merged.stderr)


def test_slurm(folder: Path) -> None:
    write(folder / "bin/sbatch", SBATCH).chmod(0o700)
    script = _shell("#SBATCH")
    assert script.startswith("#!/bin/bash\n")
    assert f"--array=1-{COUNT}%" in script
    write(folder / "prep.sbatch", script)
    _check(_run(["bash", "-euc", _shell("afterok")], folder), folder)


def test_slurm_does_not_merge_if_a_task_fails(folder: Path) -> None:
    write(folder / "bin/sbatch", SBATCH).chmod(0o700)
    write(folder / "prep.sbatch", _shell("#SBATCH"))
    write(folder / "photos/a/20.jpg", b"no image")
    done = _run(["bash", "-euc", _shell("afterok")], folder)
    assert done.returncode != 0
    assert "a/20.jpg" in done.stderr
    assert not (folder / "data/photos/dataset.json").exists()


def test_submitit(folder: Path, needs: Callable[[str], None]) -> None:
    """It runs the jobs as processes of this machine."""
    needs("submitit")
    (script,) = _blocks("python")
    script = script.replace('AutoExecutor("logs/submitit")', 'AutoExecutor("logs", "local")')
    write(folder / "submit.py", script)
    done = _run([sys.executable, "-P", "submit.py"], folder)
    _check(done, folder)
    count = read_manifest(folder / "whole").split("train").num_samples
    assert f"{count} images" in done.stdout


def _container(job: dict[str, Any]) -> dict[str, Any]:
    """The container of a Job. A file system of both is mounted where the commands expect it."""
    spec = job["spec"]["template"]["spec"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert spec["restartPolicy"] == "Never"  # backoffLimitPerIndex needs it
    (found,) = spec["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in found["volumeMounts"]}
    assert mounts == {"data": "/data"}
    assert [volume["name"] for volume in spec["volumes"]] == ["data"]
    return dict(found)


def test_kubernetes(folder: Path) -> None:
    """The commands of the containers, with the index of each pod."""
    (text,) = _blocks("yaml")
    prep, merge = yaml.safe_load_all(text)
    assert prep["spec"]["completionMode"] == "Indexed"
    assert prep["spec"]["completions"] == COUNT
    assert prep["spec"]["backoffLimitPerIndex"] > 0

    def run(job: dict[str, Any], **variables: str) -> subprocess.CompletedProcess[str]:
        container = _container(job)
        words = [*container["command"], *container.get("args", [])]
        return _run([word.replace("/data/", f"{folder}/") for word in words], folder, **variables)

    for index in range(COUNT):
        done = run(prep, JOB_COMPLETION_INDEX=str(index))
        assert done.returncode == 0, done.stderr
        assert f"shard {index + 1}/{COUNT}: written" in done.stdout
    _check(run(merge), folder, "prepared")


def test_all_blocks_are_tested() -> None:
    texts = ("xargs", "& done", "#SBATCH", "afterok")
    assert len(SHELL) == len({_shell(text) for text in texts}) == len(texts)
    assert [len(_blocks(language)) for language in ("python", "yaml")] == [1, 1]
