"""The choices of "auto", with simulated speeds and with real steps of a small net."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.errors import ConfigError
from slipform.pipelines.project import Project
from slipform.train.machine.distributed import Process
from slipform.train.run import auto, trial
from slipform.train.run import decide as deciding
from slipform.train.run.decide import Decision
from slipform.train.run.folder import run_config
from slipform.train.run.loop import fit
from slipform.train.run.trial import Variant, usual, variants
from tests.train.run.scripted import BF16, FP32, quick


def test_the_fastest_is_chosen_and_kept_in_the_profile(scripted: Any) -> None:
    wobble = itertools.cycle([1.0, 1.02, 0.99, 1.01])

    def seconds(variant: Variant, size: int) -> float:
        slower = 1.0 if variant.precision == "bf16" else 1.6
        layout = 1.0 if variant.channels_last else 1.2
        return 0.02 * size * slower * layout * next(wobble)

    decision, steps = scripted(seconds, quick())
    assert decision.config.train.precision == "bf16"
    assert decision.config.train.channels_last is True
    assert decision.config.train.compile == "off"
    assert "measured in" in decision.reason
    assert len(decision.rates) == 4
    assert steps
    again, steps = scripted(seconds, quick())
    assert again.config == decision.config
    assert not steps, "the profile knows it"
    assert "measured here on 20" in again.reason
    other, steps = scripted(seconds, quick(batch_size=4))
    assert steps, "another shape is measured anew"
    assert other.config.train.precision == "bf16"


def test_another_version_measures_anew(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its net, or its step, may be another one."""
    assert scripted(lambda variant, size: 0.02 * size, quick())[1]
    assert not scripted(lambda variant, size: 0.02 * size, quick())[1]
    monkeypatch.setattr(trial, "project", lambda: Project("0.0.1", [], None))
    assert scripted(lambda variant, size: 0.02 * size, quick())[1]


def test_a_profile_that_cannot_be_written_does_not_end_a_run(scripted: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where the folder should be")
    decision, steps = scripted(lambda variant, size: 0.02 * size, quick())
    assert steps
    assert "measured in" in decision.reason
    assert f"not kept for the next run ({tmp_path / 'cache'}" in decision.reason


def test_noise_does_not_replace_the_usual_variant(scripted: Any) -> None:
    wobble = itertools.cycle([1.0, 1.3, 0.8, 1.1, 0.9])
    decision, _ = scripted(lambda variant, size: 0.02 * size * next(wobble), quick())
    assert decision.config.train.precision == "fp32"
    assert decision.config.train.channels_last is True


def test_given_settings_are_not_varied(scripted: Any) -> None:
    def seconds(variant: Variant, size: int) -> float:
        return 0.02 * size * (0.5 if variant.precision == "bf16" else 1)

    decision, steps = scripted(seconds, quick(precision="fp32", channels_last=True))
    assert (decision.config.train.precision, steps) == ("fp32", [])
    decision, steps = scripted(seconds, quick(channels_last=False))
    assert decision.config.train.precision == "bf16"
    assert all(not variant.channels_last for variant, _ in steps)
    given = quick(precision="bf16", channels_last=False, compile="off")
    assert scripted(seconds, given)[0] == Decision(given)


def test_short_runs_and_no_budget_measure_nothing(scripted: Any) -> None:
    for config in (quick(epochs=1), quick(auto_seconds=0.0)):
        decision, steps = scripted(lambda variant, size: 10.0, config)
        assert (decision.config.train.precision, steps) == ("fp32", [])
        assert decision.config.train.channels_last is True


def test_the_probe_is_not_misled_by_the_overhead_of_small_batches(scripted: Any) -> None:
    """400 steps of 0.1 s are a short run, though 4 images take almost as long as 200."""
    config = quick(epochs=400, batch_size=200)
    decision, steps = scripted(lambda variant, size: 0.09 + size * 0.01 / 200, config)
    assert "short" in decision.reason
    assert [size for _, size in steps] == [4, 4, 32, 32, 200, 200]


@pytest.mark.parametrize(("epochs", "seconds"), [(1, 9.0), (20, 0.2), (20, 0.9)])
def test_a_short_run_on_a_gpu_is_not_compiled(
    scripted: Any, epochs: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compilation takes up to a minute; 600 steps of 0.2 s take two. The probe is not compiled."""
    gpu = Process(torch.device("cuda", 0))
    monkeypatch.setattr(deciding, "profile_key", lambda *_: "key")
    config = quick(epochs, precision="bf16", channels_last=True)
    decision, steps = scripted(lambda variant, size: seconds, config, gpu)
    assert decision.config.train.compile == ("on" if seconds * 600 > 180 and epochs > 1 else "off")
    assert {variant.compile for variant, _ in steps} <= {"off"}
    given = config.replace("train.compile", "on")
    assert scripted(lambda variant, size: seconds, given, gpu)[0].config.train.compile == "on"


def test_a_very_slow_variant_gets_one_step_and_a_slow_one_three(scripted: Any) -> None:
    def seconds(variant: Variant, size: int) -> float:
        if variant.precision == "bf16":
            return 0.02 * size * (20 if variant.channels_last else 1.5)
        return 0.02 * size

    _, steps = scripted(seconds, quick(epochs=2000))
    raced = [variant for variant, _ in steps][4:]
    assert raced.count(BF16) == 1
    assert raced.count(Variant("bf16", False, "off")) == 4
    assert raced.count(Variant("fp32", False, "off")) == 8


def test_thorough_tries_compilation_and_ignores_length_and_profile(scripted: Any) -> None:
    def seconds(variant: Variant, size: int) -> float:
        return 0.02 * size * (0.8 if variant.compile == "on" else 1)

    for _ in range(2):
        decision, steps = scripted(seconds, quick(epochs=1), thorough=True)
        assert decision.config.train.compile == "on"
        assert len({variant for variant, _ in steps}) == 8
    later, steps = scripted(seconds, quick())
    assert (later.config.train.compile, steps) == ("on", [])
    short, steps = scripted(seconds, quick(epochs=20))  # 600 steps of 0.13 s
    assert (short.config.train.compile, steps) == ("off", [])


def test_the_profile_can_be_another_file_or_none(scripted: Any, tmp_path: Path) -> None:
    def seconds(variant: Variant, size: int) -> float:
        return 0.02 * size * (0.8 if variant.precision == "bf16" else 1)

    other = tmp_path / "other.json"
    scripted(seconds, quick(), thorough=True, profile=other)
    scripted(seconds, quick(), known=False)
    assert "bf16" in other.read_text()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("compiled", ["auto", "on"])
def test_nothing_is_compiled_for_a_choice(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, compiled: str
) -> None:
    """Four variants would be compiled for minutes. A short run takes the choice of a long one, but
    compiles only if it is told to."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(deciding, "profile_key", lambda *_: "key")
    gpu, long = Process(torch.device("cuda", 0)), quick(compile=compiled)

    def seconds(variant: Variant, size: int) -> float:
        return 0.02 * size * (1.5 if variant.channels_last else 1.0)

    decision, steps = scripted(seconds, long, gpu)
    assert {variant.compile for variant, _ in steps} == {"off"}
    assert len({variant for variant, _ in steps}) == 4
    assert decision.config.train.compile == "on"
    assert decision.config.train.channels_last is False
    again, steps = scripted(seconds, long, gpu)
    assert (again.config, steps) == (decision.config, [])
    short, steps = scripted(seconds, long.replace("train.epochs", 20), gpu)  # 96 s
    assert short.config.train.compile == ("off" if compiled == "auto" else "on")
    assert (short.config.train.channels_last, steps) == (False, [])


def test_a_variant_that_lacks_memory_is_left_out(scripted: Any) -> None:
    def seconds(variant: Variant, size: int) -> float:
        if variant.precision == lacking:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return 0.02 * size

    lacking = "bf16"
    decision, _ = scripted(seconds, quick())
    assert decision.config.train.precision == "fp32"
    assert "; out of memory: bf16, channels last, bf16, channels first" in decision.reason
    lacking = "fp32"  # the usual one
    with pytest.raises(torch.OutOfMemoryError):
        scripted(seconds, quick(batch_size=4))


def test_a_gpu_without_a_measurement_uses_bfloat16_and_compiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(trial, "has_bfloat16", lambda device: True)
    assert usual(quick().train, torch.device("cuda")) == Variant("bf16", True, "on")
    assert usual(quick().train, torch.device("cpu")) == FP32
    found = variants(quick().train, torch.device("cpu"), compile_too=False)
    assert found[0] == FP32
    assert len(found) == 4


@pytest.mark.parametrize("chosen", [FP32, pytest.param(BF16, marks=pytest.mark.slow)])
def test_a_run_keeps_its_decision(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None, chosen: Variant
) -> None:
    """config.toml has the choice and the reason, and a resumed run measures nothing, even if it is
    resumed with "auto"."""

    monkeypatch.setattr(
        auto, "decide", lambda config, *_: Decision(chosen.applied(config), "a test says so")
    )
    fit(quick(epochs=1, batch_size=40), shapes, tmp_path / "run", device="cpu", quiet=True)
    text = (tmp_path / "run" / "config.toml").read_text()
    assert text.startswith("# auto: a test says so\n")
    assert run_config(tmp_path / "run").train.precision == chosen.precision

    def fails(*_: Any) -> None:
        raise AssertionError("a resumed run decides again")

    monkeypatch.setattr(auto, "decide", fails)
    for epochs, precision in ((2, chosen.precision), (3, "auto")):
        longer = run_config(tmp_path / "run").replace("train.epochs", epochs)
        longer = longer.replace("train.precision", precision)
        fit(longer, shapes, tmp_path / "run", device="cpu", resume=True, quiet=True)
        text = (tmp_path / "run" / "config.toml").read_text()
        assert text.startswith("# auto: a test says so\n")
        assert f'precision = "{chosen.precision}"' in text


def test_nothing_is_measured_for_a_folder_that_has_a_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    fit(quick(epochs=1, batch_size=40), shapes, tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.setattr(auto, "decide", lambda *_: pytest.fail("measured"))
    with pytest.raises(ConfigError, match="contains a run already"):
        fit(quick(epochs=1, batch_size=40), shapes, tmp_path / "run", device="cpu", quiet=True)
