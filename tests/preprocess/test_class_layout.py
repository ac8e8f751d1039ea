"""The layouts of image folders, and the messages of prep about them."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.sample_names import read_names
from slipform.preprocess.cli import main


def images(folder: Path, num: int = 10, ending: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(num):
        pixels = np.full((9, 8, 3), i, np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.{ending}")


def prep(root: Path, *options: str, code: int = 0) -> str:
    out = root.parent / "out"
    result = CliRunner().invoke(
        main, ["images", "--source", str(root), "--out", str(out), *options]
    )
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert code == 0 or not out.exists()
    return result.output


def totals(root: Path) -> dict[str, int]:
    """Images per class, over all splits."""
    manifest = read_manifest(root.parent / "out")
    counts = np.sum([info.counts for info in manifest.splits.values()], axis=0)
    return dict(zip(manifest.classes, counts.tolist(), strict=True))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.mark.parametrize(
    "folder",
    [".cache", "__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"],
)
def test_folders_of_operating_systems_are_not_classes(root: Path, folder: str) -> None:
    for place in (root / folder, root / "a" / folder, root / "photos" / folder):
        images(place, 3)
    images(root / "a")
    images(root / "photos")
    text = prep(root)
    assert totals(root) == {"a": 10, "photos": 10}
    assert folder in text
    for path in (f"{folder}/", f"a/{folder}/", f"photos/{folder}/"):
        assert path in (root.parent / "out/report.txt").read_text()


def test_one_folder_around_the_classes(root: Path) -> None:
    images(root / "photos/a")
    images(root / "photos/b")
    images(root / "__MACOSX", 3)
    (root / "readme.txt").write_text("hello")
    assert "readme.txt" in prep(root)
    assert totals(root) == {"a": 10, "b": 10}


@pytest.mark.parametrize("name", ["train", "Test", "validation"])
def test_a_class_with_the_name_of_a_split_needs_an_option(root: Path, name: str) -> None:
    for folder in ("car", name, "plane"):
        images(root / folder)
    assert "--layout classes" in prep(root, code=1)
    prep(root, "--layout", "classes")
    assert totals(root) == {"car": 10, name: 10, "plane": 10}


def test_classes_beside_train_need_an_option(root: Path) -> None:
    for folder in ("train/a", "train/b", "c"):
        images(root / folder)
    text = prep(root, code=1)
    assert "--layout classes" in text
    assert "--layout splits" in text
    prep(root, "--layout", "splits")
    assert totals(root) == {"a": 10, "b": 10}
    assert "c/" in (root.parent / "out/report.txt").read_text()


def test_val_and_test_without_train_are_an_error(root: Path) -> None:
    for folder in ("val/a", "val/b", "test/a", "test/b"):
        images(root / folder)
    assert "train/ is missing" in prep(root, code=1)
    assert "train/ is missing" in prep(root, "--layout", "splits", code=1)


def test_splits_within_classes_are_an_error(root: Path) -> None:
    for folder in ("a/train", "a/val", "b/train", "b/val"):
        images(root / folder)
    assert "Exchange the levels" in prep(root, code=1)
    prep(root, "--layout", "classes")
    assert totals(root) == {"a": 20, "b": 20}


def test_a_single_class_needs_an_option(root: Path) -> None:
    images(root / "a")
    assert "one class only" in prep(root, code=1)
    prep(root, "--layout", "classes")
    assert totals(root) == {"a": 10}


@pytest.mark.parametrize("flat", ["test", "test/all"])
def test_unlabeled_test_images_are_left_out(root: Path, flat: str) -> None:
    images(root / "train/a")
    images(root / "train/b")
    images(root / flat, 3)
    text = prep(root)
    assert "test/" in text
    assert totals(root) == {"a": 10, "b": 10}
    report = (root.parent / "out/report.txt").read_text()
    assert all(f"{flat}/{i:02d}.png" in report for i in range(3))


def test_a_class_without_training_images_is_named(root: Path) -> None:
    for folder in ("train/a", "train/b", "test/a", "test/c"):
        images(root / folder)
    assert "1 class has no training image: c" in prep(root)


def test_names_that_differ_in_case(root: Path) -> None:
    for folder in ("train/Cat", "train/dog", "val/cat", "val/dog"):
        images(root / folder)
    assert "upper and lower case" in prep(root, code=1)
    images(root / "train/cat")  # now both have training images
    prep(root)
    assert set(totals(root)) == {"Cat", "cat", "dog"}


def test_one_name_in_two_unicode_forms_is_one_class(root: Path) -> None:
    for split, form in (("train", "NFC"), ("val", "NFD")):
        images(root / split / unicodedata.normalize(form, "Äpfel"))
        images(root / split / "dog")
    assert "two Unicode forms" in prep(root)
    assert totals(root) == {unicodedata.normalize("NFC", "Äpfel"): 20, "dog": 20}
    # A name with a single form does not change, so labels of older datasets do not change.
    for path in (root / "val").iterdir():
        path.rename(path.parent.with_name("train") / ("x" + path.name))
    prep(root)
    assert unicodedata.normalize("NFD", "xÄpfel") in totals(root)


def test_linked_folders_are_followed_once(root: Path, tmp_path: Path) -> None:
    images(tmp_path / "pool")
    images(root / "a")
    images(root / "b", 1)
    (root / "b/more").symlink_to(tmp_path / "pool")
    (root / "b/again").symlink_to(tmp_path / "pool")
    (root / "b/loop").symlink_to(root / "b")
    assert "3 linked folders followed" in prep(root)
    assert totals(root) == {"a": 10, "b": 11}


def test_links_that_lead_to_themselves_are_files_that_cannot_be_read(root: Path) -> None:
    images(root / "a")
    images(root / "b")
    for name in ("b/self.jpg", "b/self", "self"):
        (root / name).symlink_to(Path(name).name)
    assert "self.jpg: a link that cannot be followed" in prep(root, code=1)
    assert "left out: 1 images" in prep(root, "--on-bad", "skip")


@pytest.mark.parametrize("place", ["root", "above", "class"])
def test_links_to_a_folder_around_them_are_not_followed(root: Path, place: str) -> None:
    """Parent folders contain the images of the other classes."""
    images(root / "a")
    images(root / "b", 3)
    images(root.parent / "elsewhere/c", 4)
    if place == "class":  # the class folder is itself a link
        (root / "c").symlink_to(root.parent / "elsewhere/c")
    target = {"root": root, "above": root.parent, "class": root}[place]
    (root / ("c" if place == "class" else "b") / "loop").symlink_to(target)
    assert "link to a parent folder" in prep(root)
    assert totals(root) == {"a": 10, "b": 3} | ({"c": 4} if place == "class" else {})


def test_every_file_is_used_or_named(root: Path) -> None:
    images(root / "a")
    images(root / "b", 2, "jfif")
    images(root / "b", 2, "avif")
    for name in ("IMG_1", "IMG_2.jpg_large", "IMG_3.001"):
        (root / "b" / name).write_bytes((root / "a/00.png").read_bytes())
    left_out = ["notes.txt", "photo.heic", "Makefile", "x.001", "Thumbs.db", ".hidden.jpg"]
    for name in left_out:
        (root / "b" / name).write_bytes(b"no image, but " + name.encode())
    text = prep(root)
    assert totals(root) == {"a": 10, "b": 7}
    report = (root.parent / "out/report.txt").read_text()
    assert all(f"b/{name}" in report for name in left_out)
    counts = re.findall(r"^left out: (\d+) x ", text, re.MULTILINE)
    assert sum(map(int, counts)) == len(left_out)
    assert "2 .avif" in text


def test_names_that_are_not_utf8(root: Path) -> None:
    images(root / "a")
    images(Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")))
    with open(os.fsencode(root) + b"/a/bad\xe9.png", "wb") as file:
        file.write(b"no image")
    text = prep(root, "--on-bad", "skip")
    assert "not UTF-8" in text
    assert totals(root) == {"a": 10, "caf\\xe9": 10}
    assert "a/bad\\xe9.png" in (root.parent / "out/rejected.csv").read_text()
    assert "a/bad\\xe9.png" in (root.parent / "out/report.txt").read_text()


def test_escape_codes_do_not_reach_the_terminal(root: Path) -> None:
    names = ["\x1b[31mred", "two\nlines", "bell\a"]
    for name in names:
        images(root / name)
        (root / name / "\x1b[2J.png").write_bytes(b"no image")
    out = root.parent / "out"
    text = prep(root, code=1) + prep(root, "--on-bad", "skip")
    text += CliRunner().invoke(main, ["show", str(out)]).output
    text += CliRunner().invoke(main, ["verify", str(out)]).output
    assert not set("\x1b\a") & set(text)
    assert set(totals(root)) == set(names)
    assert not set("\x1b\a") & set((out / "report.txt").read_text())


def test_a_split_that_gets_no_image_says_so(root: Path) -> None:
    images(root / "a", 4)
    images(root / "b", 4)
    text = prep(root)
    assert "no image in: val, test" in text
    manifest = read_manifest(root.parent / "out")
    assert "no test (0.1 of every class is less than one image)" in manifest.split_rule
    assert "no val" in manifest.split_rule


def test_unusable_links_fifos_and_devices_are_listed(root: Path) -> None:
    images(root / "a")
    images(root / "b")
    (root / "a/dead.jpg").symlink_to("nowhere")
    (root / "a/zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(root / "a/fifo.jpg")
    text = prep(root, code=1)
    assert all(f"a/{name}.jpg" in text for name in ("dead", "zero", "fifo"))
    prep(root, "--on-bad", "skip")
    assert totals(root) == {"a": 10, "b": 10}
    assert read_manifest(root.parent / "out").rejected == 3


def test_a_dry_run_writes_nothing(root: Path) -> None:
    images(root / "a")
    images(root / "b")
    text = prep(root, "--dry-run")
    assert "classes: 2 (a, b)" in text
    assert not (root.parent / "out").exists()
    assert text.startswith(prep(root).split("train: ", 1)[0])


def test_the_account_is_kept(root: Path) -> None:
    images(root / "a")
    images(root / "b")
    text = prep(root)
    kept = json.loads((root.parent / "out/dataset.json").read_text())["account"]
    assert text.startswith("\n".join(kept))
    assert (root.parent / "out/report.txt").read_text().startswith("\n".join(kept))


def test_names_of_samples_are_kept(root: Path) -> None:
    images(root / "a")
    images(root / "b")
    (root / "a/03.png").write_bytes(b"no image")
    prep(root, "--on-bad", "skip", "--encoding", "raw")
    manifest = read_manifest(root.parent / "out")
    from slipform.pipelines.beton import Beton

    for info in manifest.splits.values():
        beton, names = Beton(root.parent / "out" / info.file), read_names(root.parent / "out", info)
        assert names is not None
        for index, name in enumerate(names):
            assert name[0] == manifest.classes[beton.labels[index]]
            assert int(beton.raw(index)[0, 0, 0]) == int(name[2:4])


def test_large_photos_get_a_note_about_shorter_side(root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        Image.new("L", (2000, 1500)).save(root / name / "0.jpg")
    assert "--shorter-side 512" in prep(root)
    assert "--shorter-side 512" not in prep(root, "--shorter-side", "256")
