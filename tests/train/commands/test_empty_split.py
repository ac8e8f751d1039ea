"""Commands on a split without images: no figure of an image, and no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipform.pipelines.loader import Loader
from slipform.train import cli
from slipform.train.config.run_config import RunConfig
from slipform.train.inference import data as inputs
from slipform.train.inference import showing
from slipform.train.run.loop import fit
from tests.pipelines import folders
from tests.train.drawing import without_figures
from tests.train.run.labeled import dataset_of


@pytest.mark.parametrize("count", [0, 3])
def test_the_first_image_of_a_split(count: int, tmp_path: Path) -> None:
    images = [folders.noise(8, 8, seed) for seed in range(count)]
    with Loader(
        folders.write_folder(tmp_path, images), batch_size=2, training=False, executor="host"
    ) as loader:
        found = inputs.first_image(loader)
        if count:
            assert found is not None
            assert found.equal(next(iter(loader)).images[:1])
        else:
            assert found is None


@pytest.mark.parametrize("kind", ["multi", pytest.param("soft", marks=pytest.mark.slow)])
def test_validate_and_figures(
    kind: str, small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = "bce" if kind == "multi" else "cross_entropy"
    config = small(f'loss.name="{loss}"', "train.epochs=1", 'augment.crop="center"')
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(config, dataset_of(tmp_path / "data", kind), tmp_path / "run", quiet=True)
    # Both were imported above: a module that is imported meanwhile would keep the replacement.
    for module in (inputs, showing):
        monkeypatch.setattr(module, "first_image", lambda _: None)
    arguments = [str(tmp_path / "run"), "--figures", str(tmp_path / "drawn"), "--device", "cpu"]
    result = CliRunner().invoke(cli.validate, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "drawn/curves.png").is_file()
    assert not (tmp_path / "drawn/per_class.png").exists()
    result = CliRunner().invoke(cli.figures, [str(tmp_path / "run"), "--no-untrained"])
    assert result.exit_code == 1
    assert "has images: give --image" in result.output
    assert isinstance(result.exception, SystemExit)
