"""Every pair of commands that write, at the same time on one dataset and one run. Each command
gives a right result or is refused with a clear error, and the run ends like an undisturbed one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.verify import find_faults
from slipform.train.run.checkpoint import checkpoints
from tests.drills.runs import recipe, same_run, train_on
from tests.drills.tasks import small
from tests.drills.test_pairs import TINY
from tests.drills.warm import Ended, Warm

COMMANDS = ("prep", "resume", "overwrite", "sweep", "validate", "export", "figures")
PAIRS = list(combinations_with_replacement(COMMANDS, 2))
SETTINGS = ("train.epochs=3", "train.keep_checkpoints=3")


@dataclass(frozen=True)
class Place:
    """data: the dataset. run: a run of a sweep with one epoch left. whole: the same run without
    interruption. kept: copies of data and sweep."""

    data: Path
    run: Path
    sweep: Path
    whole: Path
    kept: Path
    recipe: Path

    def command(self, name: str, seed: str) -> tuple[str, ...]:
        """The task of a command of COMMANDS. seed: the seed of prep."""
        on_data = ("train", str(self.data), "--recipe", str(self.recipe))
        return {
            "prep": ("prep", "shapes", "--out", str(self.data), *TINY, "--seed", seed),
            "resume": ("train", "--resume", str(self.run)),
            "overwrite": (*on_data[:3], f"{self.recipe}:a", "--out", str(self.run), "--overwrite"),
            "sweep": (*on_data, "--all", "--out", str(self.sweep)),
            "validate": ("validate", str(self.run), "--figures", str(self.run / "figures")),
            "export": ("export", str(self.run), "--format", "safetensors"),
            "figures": ("figures", str(self.run)),
        }[name]

    def restore(self) -> None:
        """Restore the state before the pair."""
        for name in ("data", "sweep"):
            shutil.rmtree(self.data.parent / name)
            shutil.copytree(self.kept / name, self.data.parent / name)


@pytest.fixture(scope="module")
def place(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("pairs")
    text = recipe(folder, small(*SETTINGS)).read_text()
    (folder / "sweep.toml").write_text(f'{text}\n[[runs]]\nname = "a"\n')
    made = Place(
        folder / "data", folder / "sweep/a/seed-0", folder / "sweep", folder / "whole",
        folder / "kept", folder / "sweep.toml",
    )  # fmt: skip
    ended = warm.run(*made.command("prep", "0"))
    assert ended.code == 0, ended
    ended = train_on(warm, made.data, made.whole, small(*SETTINGS))
    assert ended.code == 0, ended
    shutil.copytree(made.whole, made.run)
    checkpoints(made.run)[0].unlink()
    (made.run / "summary.json").unlink()
    for name in ("data", "sweep"):
        shutil.copytree(folder / name, made.kept / name)
    return made


def _wrong(ended: Ended, folder: Path) -> str:
    """ "" if a command succeeded, or was refused with the name of the folder."""
    refused = ended.code == 1 and "Error: " in ended.output and str(folder) in ended.output
    if "Traceback" not in ended.output and (ended.code == 0 or refused):
        return ""
    return f"exit {ended.code}: {ended.output[-1500:]}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("first", "second"), PAIRS, ids=map("-".join, PAIRS))
def test_every_pair(
    warm: Warm, place: Place, first: str, second: str, count: Callable[[str], None]
) -> None:
    """Prep writes the same images again, or other images with the same counts."""
    folder, refused = place.data.parent, 0
    for number, seed in enumerate("0101" if "prep" in (first, second) else "00"):
        place.restore()
        names = (first, second) if number < 2 else (second, first)
        started = [warm.start(*place.command(name, seed)) for name in names]
        for name, ended in zip(names, map(warm.wait, started), strict=True):
            assert not (wrong := _wrong(ended, folder)), f"{name} of {names}, {seed}: {wrong}"
            refused += ended.code != 0
        assert not list(find_faults(place.data, read_manifest(place.data), threads=1))
        assert not list(folder.rglob(".*slipform-tmp"))
        assert sorted(path.name for path in folder.iterdir()) == [
            "data", "kept", "small.toml", "sweep", "sweep.toml", "whole",
        ]  # fmt: skip
        if seed == "0":
            ended = warm.run(*place.command("resume", "0"))
            was_swept = "checkpoints were removed" in ended.output
            assert ended.code == 0 or was_swept, ended
            assert same_run(place.whole, place.run, checkpoints_too=not was_swept) == ""
    count(f"pairs {first} and {second}: {number + 1} times, {refused} commands refused")
