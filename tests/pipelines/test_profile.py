"""The tune profile: written, read, and used by executor = "auto" only."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from slipform.pipelines import executors
from slipform.pipelines import loader as loading
from slipform.pipelines.beton import Beton
from slipform.pipelines.executors.contract import Executor
from slipform.pipelines.loader import Loader
from slipform.pipelines.machine import cache_folder
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.profile import profile_key, profile_path, read_profile, write_profile
from slipform.pipelines.rendering.request import Settings


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SLIPFORM_PROFILE")


def test_the_file_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile_path() == tmp_path / "slipform/tune.json"
    monkeypatch.setenv("SLIPFORM_PROFILE", str(tmp_path / "shared/found.json"))
    write_profile(profile_path(), "one", {"executor": "host"})
    assert read_profile("one") == {"executor": "host"}
    assert (tmp_path / "shared/found.json").is_file()
    assert not (tmp_path / "slipform").exists()


def test_a_profile_keeps_the_findings_of_other_machines() -> None:
    write_profile(profile_path(), "one", {"executor": "host", "threads": 0})
    write_profile(profile_path(), "two", {"executor": "dali", "threads": 4})
    write_profile(profile_path(), "one", {"executor": "resident", "threads": 1})
    assert read_profile("one") == {"executor": "resident", "threads": 1}
    assert read_profile("two") == {"executor": "dali", "threads": 4}
    assert read_profile("three") == {}
    for share in (0.25, 1, -0.1, 1.5, "auto", True):
        write_profile(profile_path(), "share", {"decoder_share": share})
        fits = share in (0.25, 1) and share is not True
        assert read_profile("share") == ({"decoder_share": share} if fits else {})


@pytest.mark.parametrize(
    "text", ["{broken", "[]", '{"version": 99, "profiles": {"one": {}}}', '{"version": 1}']
)
def test_a_damaged_profile_is_ignored_and_replaced(text: str) -> None:
    profile_path().parent.mkdir(parents=True)
    profile_path().write_text(text)
    assert read_profile("one") == {}
    write_profile(profile_path(), "one", {"executor": "host"})
    assert list(json.loads(profile_path().read_text())["profiles"]) == ["one"]


def test_numbers_that_a_loader_refuses_are_ignored() -> None:
    write_profile(profile_path(), "one", {"threads": 1025, "prefetch": 257, "executor": "host"})
    write_profile(profile_path(), "two", {"threads": 1024, "prefetch": 256})
    assert read_profile("one") == {"executor": "host"}
    assert read_profile("two") == {"threads": 1024, "prefetch": 256}


def test_auto_uses_the_profile_if_resident_does_not_fit(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Augmentation(image_size=32, resize=36)
    write_profile(
        profile_path(),
        profile_key("jpeg", 32, "cpu"),
        {"executor": "dali", "threads": 1, "prefetch": 3},
    )

    def chosen(executor: str) -> str:
        with Loader(shapes, augment=spec, batch_size=8, executor=executor) as loader:
            return loader.executor_name

    assert chosen("auto") == "resident"
    monkeypatch.setattr(executors, "MEMORY_SHARE", 0.0)
    assert chosen("auto") == "dali"
    assert chosen("host") == "host"
    profile_path().unlink()
    assert chosen("auto") == "host"


def test_a_given_executor_uses_the_profile_if_it_is_told_to(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the loaders of a resumed run do, whose executor "auto" chose before."""
    spec, threads = Augmentation(image_size=32, resize=36), list[int]()
    write_profile(
        profile_path(), profile_key("jpeg", 32, "cpu"), {"executor": "host", "threads": 3}
    )

    def noted(name: str, beton: Beton, settings: Settings, found: dict[str, Any]) -> Executor:
        threads.append(settings.threads)
        return executors.choose(name, beton, settings, found)

    monkeypatch.setattr(loading, "choose", noted)
    monkeypatch.setattr(loading, "num_threads", lambda device: 7)
    for executor, as_tuned in (("host", True), ("host", False), ("resident", True)):
        options: dict[str, Any] = {"executor": executor, "as_tuned": as_tuned}
        Loader(shapes, augment=spec, batch_size=8, **options).close()
    assert threads == [3, 7, 7]


def test_a_home_that_this_user_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs with another user id and HOME=/root."""
    home, real = tmp_path / "root", os.stat
    home.mkdir()

    def stat(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{home}/"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(home)))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_folder() == tmp_path / f"slipform-{os.getuid()}"


def test_the_cache_without_a_home_is_no_folder_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user may create the first name below /tmp, also as a link to a folder of this user."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first, home = cache_folder(), tmp_path / "home"
    assert first == tmp_path / f"slipform-{os.getuid()}"
    first.mkdir(mode=0o700)
    assert cache_folder() == first
    first.chmod(0o777)
    assert cache_folder() == tmp_path / f"{first.name}-2"
    (tmp_path / f"{first.name}-2").symlink_to(home)
    assert cache_folder() == tmp_path / f"{first.name}-3"
    write_profile(profile_path(), "one", {"executor": "host"})
    assert read_profile("one") == {"executor": "host"}
    assert not home.exists()
    assert not list(first.iterdir())
