"""The command `slipform doctor`: what this machine has, what is missing, how to fix it.

In: nothing. Out: a report on standard output; exit code 0 if training works, 1 if something that
training needs is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from slipform.pipelines.command import Command

if TYPE_CHECKING:
    from slipform.doctor.finding import Finding, State

__all__ = ["doctor"]

_SIGNS = {"ok": ("✓", "green"), "optional": ("○", "yellow"), "needed": ("✗", "red")}


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Show what this machine has, what is missing, and the command that fixes it.

    This takes some seconds: it times a few training steps in float32 and bfloat16. The exit code
    is 0 if training works on this machine, and 1 if something that training needs is missing.

    \b
    Examples:
      slipform doctor
      slipform doctor --json
    """
    found: list[Finding] = []
    section = ""
    for finding in _findings():
        found.append(finding)
        if as_json:
            continue
        if finding.section != section:
            section = finding.section
            click.secho(f"{section}" if len(found) == 1 else f"\n{section}", bold=True)
        sign, color = _SIGNS[finding.state]
        name = f"{finding.name:<22} "
        text = finding.text.replace("\n", f"\n    {'':<22} ")
        click.echo(f"  {click.style(sign, fg=color)} {name}{text}")
        if finding.mend:
            click.echo(f"    {'':<22} {click.style(finding.mend, fg=color)}")
    missing = [finding for finding in found if finding.state == "needed"]
    if as_json:
        fields = ("section", "name", "text", "value", "state", "mend")
        listed = [{field: getattr(finding, field) for field in fields} for finding in found]
        report = {"training_works": not missing, "findings": listed}
        click.echo(json.dumps(report, ensure_ascii=False))
    elif missing:
        names = ", ".join(finding.name for finding in missing)
        text = f"\nTraining does not work on this machine yet. Missing: {names}."
        click.secho(text, fg="red", bold=True)
    else:
        click.secho("\nTraining works on this machine.", fg="green", bold=True)
    if missing:
        raise click.exceptions.Exit(1)


def _findings() -> Iterator[Finding]:
    from slipform.doctor import folders, machine, packages

    yield from machine.machine()
    yield from packages.packages()
    yield from packages.compiler()
    yield from machine.gpu()
    yield from folders.folders()
    yield from _precision()


def _precision() -> Iterator[Finding]:
    """The measured speeds in each precision. This also checks that a training step runs."""
    from slipform.doctor.finding import Finding

    section = "Precision"
    try:
        import torch

        from slipform.doctor.precision import measure

        devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    except Exception:
        return  # torch is missing: reported among the packages
    for device in devices:
        try:
            speeds = measure(device)
        except Exception as error:
            reason = f"a training step fails: {str(error).splitlines()[0]}"
            mend = "check the packages above" if device == "cpu" else "update the NVIDIA driver"
            state: State = "needed" if device == "cpu" else "optional"
            yield Finding(section, device, reason, None, state, mend)
            continue
        for work, figures in speeds.items():
            ratio = figures["bfloat16"] / figures["float32"]
            text = ", ".join(
                f"{name} {value / 1e9:,.0f} GFLOP/s" for name, value in figures.items()
            )
            yield Finding(section, f"{work} on {device}", f"{text} ({_times(ratio)})", figures)


def _times(ratio: float) -> str:
    """How fast bfloat16 is, compared with float32."""
    if round(max(ratio, 1 / ratio), 1) == 1.0:
        return "the same"
    return f"{ratio:.1f} times" if ratio > 1 else f"{1 / ratio:.1f} times slower"
