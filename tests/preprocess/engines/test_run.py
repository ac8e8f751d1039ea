"""`prep DATASET --shards N`: all shards by one command, and the engine `local`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.pipelines.errors import ConfigError, DatasetError, SlipformError
from slipform.preprocess.build import build_dataset
from slipform.preprocess.cli import main
from slipform.preprocess.engines.run import write_shards
from slipform.preprocess.merge import merge
from slipform.preprocess.prep import prepare
from slipform.preprocess.shard_record import Shard
from slipform.preprocess.shards import write_shard
from slipform.preprocess.source import Files
from slipform.preprocess.temporary_folder import remove_abandoned
from tests.object_server import Proxy
from tests.preprocess.engines.sources import (
    MIDDLE,
    MIDDLE_SHARD,
    defective,
    listed,
    work,
)
from tests.preprocess.made import COUNT, described, made
from tests.preprocess.sources import jpeg, write
from tests.processes import wait_for


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_all_shards_are_written_and_merged(tmp_path: Path) -> None:
    """The second call writes no shard. A damaged one is written again."""
    out = tmp_path / "shards"
    manifest = write_shards(work(out), made())
    whole = build_dataset(made(), tmp_path / "whole")
    assert described(manifest) == described(whole)
    assert len(manifest.split("train").shards) == COUNT
    before = _times(out)
    assert write_shards(work(out), made()) == manifest
    shards = {name: at for name, at in _times(out).items() if name.startswith(("train", "val"))}
    assert shards == {name: before[name] for name in shards}
    (out / Shard(2, COUNT).file("train")).write_bytes(b"damaged")
    assert write_shards(work(out), made()) == manifest


def test_a_shard_of_another_worker_is_not_written_again(tmp_path: Path) -> None:
    shard = Shard(4, COUNT)
    write_shard(made(), tmp_path, shard)
    before = _times(tmp_path)
    write_shards(work(tmp_path), made())
    assert before.items() <= _times(tmp_path).items()


def test_a_failed_shard_is_named_and_the_others_are_finished(tmp_path: Path) -> None:
    """After the repair the same call writes only the failed shard."""
    expected = (
        rf"1 of 5 shards failed, so nothing was merged(.|\n)*shard {MIDDLE_SHARD}/5: 1 samples"
        rf" cannot be used(.|\n)*train made:{MIDDLE}: "
    )
    with pytest.raises(DatasetError, match=expected):
        write_shards(work(tmp_path, partial(listed, (MIDDLE,))), made(bad=(MIDDLE,)))
    with pytest.raises(DatasetError, match=rf"1 of 5 shards are not finished: {MIDDLE_SHARD}/5"):
        merge(tmp_path)
    before = _times(tmp_path)
    assert not [name for name in before if name.startswith(".")]
    manifest = write_shards(work(tmp_path), made())
    assert before.items() <= _times(tmp_path).items()
    assert described(manifest) == described(build_dataset(made(), tmp_path / "whole"))


def test_the_sizes_of_files_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each shard again."""
    for number in range(20):
        write(tmp_path / f"photos/{'ab'[number % 2]}/{number}.jpg", jpeg(number))
    asked, real = list[str](), Files.num_bytes

    def num_bytes(samples: Files, index: int) -> int:
        asked.append(samples.paths[index])
        return real(samples, index)

    monkeypatch.setattr(Files, "num_bytes", num_bytes)
    prepare("images", source=tmp_path / "photos", out=tmp_path / "out", shards=4)
    assert len(asked) == len({*asked}) == 20


def test_an_error_of_all_shards_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(DatasetError) as caught:
        write_shards(work(tmp_path / "out"), made())
    lines = caught.value.format_message().splitlines()
    assert lines[0].startswith("5 of 5 shards failed")
    assert lines[1:] == [f"shards 1/5, 2/5, 3/5, 4/5, 5/5: File exists: {tmp_path / 'out'}"]


def test_a_defect_is_not_hidden(tmp_path: Path) -> None:
    with defective() as samples, pytest.raises(TypeError):
        write_shards(work(tmp_path, defective), samples)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_wrong_engines_and_numbers_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'no engine "rey". Did you mean "ray"\?'):
        write_shards(work(tmp_path), made(), "rey")
    with pytest.raises(ConfigError, match="there is no shard -1/-1"):
        prepare("shapes", out=tmp_path / "out", shards=-1)
    for options in ({"engine": "ray"}, {"engine": "ray", "shard": "1/2"}, {"engine": "rey"}):
        with pytest.raises(ConfigError, match="writes shards: give their number"):
            prepare("shapes", out=tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="not both"):
        prepare("shapes", out=tmp_path / "out", shards=2, shard="1/2")
    assert os.listdir(tmp_path) == []


def test_ray_that_is_not_installed_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SlipformError, match=r'pip install "slipform\[ray\]"'):
        write_shards(work(tmp_path), made(), "ray")


def test_the_command_and_the_function(tmp_path: Path) -> None:
    def run(*words: str, code: int = 0) -> tuple[str, str]:
        result = CliRunner().invoke(main, words)
        assert result.exit_code == code, result.output
        return result.stdout, result.stderr

    out = tmp_path / "out"
    shapes = ["shapes", "--num-train", "30", "--num-val", "10", "--num-test", "20"]
    output, progress = run(*shapes, "--out", str(out), "--shards", "3")
    assert f"slipform train {out}" in output
    lines = progress.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        f"shard {number}/3: written" for number in (1, 2, 3)
    ]
    assert "(3/3 shards, 60/60 images" in lines[-1]
    _, progress = run(*shapes, "--out", str(out), "--shards", "3", "--engine", "local")
    assert progress.splitlines()[-1] == (
        "shard 3/3: was finished before (3/3 shards, 60/60 images)"
    )
    sizes = {"num_train": 30, "num_val": 10, "num_test": 20}
    several = prepare("shapes", out=tmp_path / "function", shards=3, **sizes)
    assert described(several) == described(prepare("shapes", out=tmp_path / "whole", **sizes))
    for wrong in (["--shards", "2", "--shard", "1/2"], ["--engine", "local"]):
        run(*shapes, "--out", str(tmp_path / "no"), *wrong, code=2)
    _, progress = run(*shapes, "--out", str(tmp_path / "whole"), "--shards", "2", code=1)
    assert "shards 1/2, 2/2: " in progress
    assert "holds a dataset without shards. Choose another --out" in progress


def test_shards_in_an_object_store(object_store: Proxy, tmp_path: Path) -> None:
    """The second call sends no beton again."""
    url, sizes = object_store.new_folder(), {"num_train": 30, "num_val": 10, "num_test": 20}
    manifest = prepare("shapes", out=url, shards=3, **sizes)
    assert described(manifest) == described(prepare("shapes", out=tmp_path / "whole", **sizes))
    object_store.requests.clear()
    assert prepare("shapes", out=url, shards=3, **sizes) == manifest
    sent = [one.path for one in object_store.requests if one.method in ("PUT", "POST")]
    assert not [path for path in sent if ".beton" in path]


def test_ctrl_c_ends_with_130_and_keeps_finished_shards(tmp_path: Path) -> None:
    out = tmp_path / "data"
    options = ["--num-train", "20000", "--shards", "100", "--out", str(out)]
    command = [sys.executable, "-P", "-m", "slipform.preprocess.cli", "shapes", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(process, (out / Shard(2, 100).record).exists)  # the line about the first is there
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
        assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "shard 1/100: written (1/100 shards" in errors
    remove_abandoned(out, ".")  # as the next process does: Ctrl-C may come before a `with` block
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    assert not (out / "dataset.json").exists()


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("kind", [DatasetError, OSError, ValueError])
def test_ctrl_c_that_became_another_error_ends_the_work(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failed shard, after which the other shards would be written."""
    tried = []

    def interrupted(*_: object, **__: object) -> None:
        tried.append(1)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise kind("damaged") from error

    monkeypatch.setattr("slipform.preprocess.engines.work.write_shard", interrupted)
    result = CliRunner().invoke(main, ["shapes", "--shards", "5", "--out", str(tmp_path / "out")])
    assert (result.exit_code, len(tried)) == (130, 1), result.output
    assert "Error: interrupted" in result.output
