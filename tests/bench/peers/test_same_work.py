"""Every peer does the same work. Boxes, flips and color factors are recovered from its output.
Their distributions are compared with torchvision's rules, by bounds that hold for any seed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from slipform.bench.images import image_files
from slipform.bench.peers import load_peer, peer_names
from slipform.bench.race.loading import JITTER
from slipform.bench.work import Work, usual_work
from slipform.pipelines.plan.augmentation import Augmentation
from tests.bench.peers import encoded
from tests.bench.peers.encoded import Gradient, Numbers

WIDE = Gradient(width=128, height=96)  # boxes are larger and smaller than the output, 48 px
SQUARE = Gradient(width=128, height=128)  # the size in .tbl files
SMALL = Gradient(width=32, height=32)
PALE = Gradient(width=48, height=48, low=100, high=140)  # no color factor clips these
BATCHES = 24  # of 60 images: 1,440 images, bound 0.083
# The imports of two alone take 14 and 4 s, and two start processes for each epoch.
SLOW = ("ffcv_loader", "timm_loader", "torch_dataloader", "spdl_loader")
# The work that a peer refuses: "jpeg" files, "raw" pixels, "shifts" of padded raw images, "colors"
# of JPEGs.
REFUSES = {
    "spdl_loader": ("raw", "shifts"),
    "timm_loader": ("raw", "shifts"),
    "turbo_loader": ("shifts", "colors"),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    # ffcv's compiled code, when it is collected
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]
Prepared = Callable[[Gradient, str], Path]


def slow(value: Any) -> Any:
    """For parametrize: a case for -m slow."""
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)


def peers(*works: str) -> list[Any]:
    """For parametrize: each peer that does a work; with the name of the work if there are
    several."""
    return [
        pytest.param(
            *((name, work) if len(works) > 1 else (name,)),
            marks=pytest.mark.slow if name in SLOW else (),
            id=f"{name}-{work}" if len(works) > 1 else name,
        )
        for name in ["slipform_loader", *peer_names()]
        for work in works
        if work not in REFUSES.get(name, ())
    ]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Dataset folders of gradient images, made once, as JPEGs or raw."""
    from slipform.preprocess.cli import main

    made: dict[tuple[Gradient, str], Path] = {}

    def prepare(gradient: Gradient, stored: str) -> Path:
        if (gradient, stored) not in made:
            folder = tmp_path_factory.mktemp("gradient")
            source = gradient.write(folder / "images", "jpg" if stored == "jpeg" else "png")
            options = ["--test-fraction", "0", "--val-fraction", "0"]
            if stored == "raw":
                options += ["--encoding", "raw"]
            paths = ["--source", str(source), "--out", str(folder / "data")]
            found = CliRunner().invoke(main, ["images", *paths, *options])
            assert found.exit_code == 0, found.output
            made[gradient, stored] = folder / "data"
        return made[gradient, stored]

    return prepare


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def work_on(folder: Path, augment: Augmentation) -> Work:
    work = usual_work(folder, batch_size=encoded.NUM_IMAGES, cores=2, device="cpu", dtype="float32")
    files = str(image_files(folder, "train")) if work.stored == "jpeg" else ""
    return replace(work, augment=augment, files=files)


def reason_not(name: str, work: Work) -> str:
    """Why a peer cannot do a work. Skips the test if the peer is not installed."""
    try:
        return load_peer(name).reason_not(work)
    except ImportError as error:
        pytest.skip(f"{name} is not installed: {error}")


def output(name: str, work: Work) -> Numbers:
    """The output of a peer in BATCHES epochs, in 0..255."""
    if reason := reason_not(name, work):
        pytest.fail(f'{name} refuses this work ("{reason}"): name the work in REFUSES')
    peer = load_peer(name)
    settings = peer.candidates(work)[0]
    if name == "slipform_loader":
        settings |= {"executor": "host" if work.stored == "jpeg" else "resident"}
    with ExitStack() as stack:
        batches = stack.enter_context(peer.batches(work, settings))
        images = []
        for _ in range(BATCHES):
            batch = next(batches)
            work.check(batch)
            images.append(encoded.colors(batch[0].numpy(), work))
    return np.concatenate(images)


RESIZED = Augmentation(
    image_size=48, crop="random_resized", flip="horizontal", normalize="imagenet"
)
PADDED = Augmentation(
    image_size=32, resize=0, crop="random", padding=4, flip="horizontal", normalize="imagenet"
)
WHOLE = replace(RESIZED, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip="none", color_jitter=JITTER)


@pytest.mark.parametrize(("name", "stored"), peers("jpeg", "raw"))
def test_the_same_crops_and_flips(prepared: Prepared, name: str, stored: str) -> None:
    shape = SQUARE if (name, stored) == ("turbo_loader", "raw") else WIDE
    work = work_on(prepared(shape, stored), RESIZED)
    seen = encoded.boxes(output(name, work), shape, margin=4)
    assert encoded.differences(seen, work, shape) == []


def padded_differences(seen: encoded.Seen, work: Work) -> list[str]:
    """The images keep their 32 px. The box begins at each of -4 ... 4 with probability 1/9."""
    result = []
    if max(np.abs(seen.width - 32).max(), np.abs(seen.height - 32).max()) > 0.5:
        result.append("size")
    positions = np.repeat(np.arange(-4.0, 5.0), 10_000)
    for name, values in (("left", seen.left), ("top", seen.top)):
        gap = encoded.distance(values, positions, tolerance=0.3)
        if gap > encoded.bound(len(values)):
            result.append(f"{name}: {gap:.3f} away")
    return result + encoded.flips(seen, work) + encoded.repetition(seen)


@pytest.mark.parametrize("name", peers("shifts"))
def test_the_same_shifts_of_small_images(prepared: Prepared, name: str) -> None:
    work = work_on(prepared(SMALL, "raw"), PADDED)
    seen = encoded.boxes(output(name, work), SMALL, margin=8)
    assert padded_differences(seen, work) == []


def color_differences(found: Numbers) -> list[str]:
    """brightness * contrast and saturation are recovered. Each of the three factors is uniform in
    0.6 ... 1.4."""
    product, saturation = encoded.factors(found, PALE, margin=2)
    generator = np.random.default_rng(0)
    first, second, third = generator.uniform(0.6, 1.4, size=(3, 100_000))
    result = []
    for name, values, reference in (
        ("brightness * contrast", product, first * second),
        ("saturation", saturation, third),
    ):
        gap = encoded.distance(values, reference, tolerance=0.03)
        if gap > encoded.bound(len(values)):
            result.append(f"{name}: {gap:.3f} away")
    return result


@pytest.mark.parametrize("name", peers("colors"))
def test_the_same_color_factors(prepared: Prepared, name: str) -> None:
    work = work_on(prepared(PALE, "jpeg"), WHOLE)
    assert color_differences(output(name, work)) == []


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "timm_loader" else ()) for n in REFUSES]
)
def test_a_peer_gives_a_reason_for_work_that_it_refuses(prepared: Prepared, name: str) -> None:
    works = {
        "jpeg": work_on(prepared(WIDE, "jpeg"), RESIZED),
        "raw": work_on(prepared(WIDE, "raw"), RESIZED),
        "shifts": work_on(prepared(SMALL, "raw"), PADDED),
        "colors": work_on(prepared(PALE, "jpeg"), WHOLE),
    }
    assert {work for work in works if reason_not(name, works[work])} == {*REFUSES[name]}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        slow((replace(RESIZED, flip="none"), "flipped")),
        (replace(RESIZED, flip_probability=0.65), "flipped"),
        slow((replace(RESIZED, scale=(0.35, 1.0)), "area")),
        (replace(RESIZED, scale=(0.08, 0.6)), "area"),
        slow((replace(RESIZED, ratio=(1.0, 1.0)), "ratio")),
        slow((replace(RESIZED, ratio=(0.5, 2.0)), "ratio")),
        (replace(RESIZED, crop="center", resize=96), "center x"),
        slow((replace(RESIZED, crop="random", resize=96), "area")),
    ],
)
def test_wrong_work_is_noticed(prepared: Prepared, wrong: Augmentation, named: str) -> None:
    """Slipform's loader, with a fixed seed and one wrong setting."""
    folder = prepared(WIDE, "raw")
    seen = encoded.boxes(output("slipform_loader", work_on(folder, wrong)), WIDE, margin=4)
    found = encoded.differences(seen, work_on(folder, RESIZED), WIDE)
    assert any(text.startswith(named) for text in found), found


def test_the_same_box_in_every_epoch_is_noticed(prepared: Prepared) -> None:
    folder = prepared(WIDE, "raw")
    seen = encoded.boxes(output("slipform_loader", work_on(folder, RESIZED)), WIDE, margin=4)
    first = {number: index for index, number in enumerate(seen.number)}
    order = [first[number] for number in seen.number]
    frozen = replace(seen, left=seen.left[order], top=seen.top[order])
    assert len(encoded.repetition(frozen)) == encoded.NUM_IMAGES


@pytest.mark.parametrize(
    "wrong",
    [
        replace(PADDED, padding=2),
        slow(replace(PADDED, padding=0)),
        slow(replace(PADDED, flip="none")),
        replace(PADDED, crop="center", padding=0),
    ],
)
def test_wrong_shifts_are_noticed(prepared: Prepared, wrong: Augmentation) -> None:
    folder = prepared(SMALL, "raw")
    seen = encoded.boxes(output("slipform_loader", work_on(folder, wrong)), SMALL, margin=8)
    assert padded_differences(seen, work_on(folder, PADDED)) != []


@pytest.mark.parametrize(
    "jitter",
    [
        replace(JITTER, saturation=0.2),
        slow(replace(JITTER, saturation=0.0)),
        slow(replace(JITTER, brightness=0.0)),
        slow(replace(JITTER, contrast=0.0)),
        slow(replace(JITTER, brightness=0.8)),
    ],
)
def test_wrong_color_factors_are_noticed(prepared: Prepared, jitter: object) -> None:
    wrong = replace(WHOLE, color_jitter=jitter)  # type: ignore[arg-type]
    assert color_differences(output("slipform_loader", work_on(prepared(PALE, "jpeg"), wrong)))
