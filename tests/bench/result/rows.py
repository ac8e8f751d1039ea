"""Made-up rows of the suites, for the tests of the pages."""

from __future__ import annotations

from pathlib import Path

from slipform.bench.race.measure import estimate
from slipform.bench.result.environment import stamp
from slipform.bench.result.result import Estimate, Result, Row, write_result


def spread(value: float) -> Estimate:
    return estimate([value * factor for factor in (0.97, 0.98, 0.99, 1, 1.01, 1.02, 1.03)])


def loader_row(name: str, rate: float, *, jitter: bool) -> Row:
    case = {
        "data": "caltech101",
        "input": "streaming",
        "color_jitter": jitter,
        "loader": name,
        "batch_size": 128,
    }
    figures = {"images_per_second": spread(rate), "multiple_of_ffcv": spread(rate / 2000)}
    return Row(suite="loaders", case=case, settings={"threads": 2}, figures=figures)


def train_row(model: str, batch_size: int, rate: float) -> Row:
    figures = {
        "step_images_per_second": spread(rate),
        "loader_images_per_second": spread(9 * rate),
        "end_to_end_images_per_second": spread(0.9 * rate),
        "end_to_end_ratio": spread(0.9),
        "wait_share": spread(0.05),
        "resident_bytes": estimate([2.0**30 + 2.0**23 * batch_size]),
    }
    case = {
        "data": "caltech101",
        "model": model,
        "batch_size": batch_size,
        "precision": "auto",
        "compile": "auto",
    }
    return Row(suite="train", case=case, figures=figures)


def write_results(folder: Path) -> list[Path]:
    """A result of loaders and one of train, with rows that have no figures."""
    loaders = [
        loader_row(n, r, jitter=j)
        for n, r in (("slipform host", 4321.0), ("ffcv <loader>", 2000.0))
        for j in (False, True)
    ]
    loaders.append(
        Row(
            suite="loaders",
            case=loaders[0].case | {"loader": "spdl_loader"},
            status="not installed",
            note="No module",
        )
    )
    train = [
        train_row(m, b, r) for m, r in (("alexnet", 90.0), ("resnet18", 30.0)) for b in (16, 64)
    ]
    train.append(
        Row(
            suite="train",
            case=train[0].case | {"batch_size": 4096},
            status="out of memory",
            note="killed",
        )
    )
    paths = []
    for name, rows in (("loaders", loaders), ("train", train)):
        paths.append(folder / f"{name}.json")
        write_result(paths[-1], Result(environment=stamp(), command=f"bench {name}", rows=rows))
    return paths
