"""`Classifier`: a trained model for inference.

In: a run folder. Out: the model of its best epoch, with its classes and the size and normalization
of its images; predictions, logits, evaluations, exported files. It has no optimizer and no
TrainState.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from slipform.pipelines.errors import ConfigError, SlipformError
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.pipelines.mirror.folder import source_of
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.train.config.image_sizes import evaluation_augment
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.data import data_notes, dataset_of, labeled, settings_for
from slipform.train.inference.export import export
from slipform.train.inference.predict import (
    BATCH_SIZE,
    Image,
    ImageBatch,
    Prediction,
    as_list,
    named_rows,
    read_batches,
)
from slipform.train.machine.distributed import Process, pick_device
from slipform.train.run.identity import check_data
from slipform.train.run.trained import inference_functions, load_trained
from slipform.train.scores.thresholds import DEFAULT
from slipform.train.step.data import open_loader
from slipform.train.step.evaluate import AnyEvaluation, count, totals_of
from slipform.train.step.step import predict_logits

__all__ = ["Classifier"]


class Classifier:
    """The model of the best epoch of a run, for inference. `Classifier.load` makes it.

    Args:
        model: The net with its weights, on the CPU.
        config: The settings of the run.
        manifest: The copy of dataset.json in the run folder.
        folder: The run folder.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        thresholds: Several labels: a probability for each class. Default: 0.5.

    Attributes:
        model: The net, on `device`, in evaluation mode: normalized images [N, 3, S, S] -> logits
            [N, C].
        classes: The names of the C classes, in the order of the logits.
        spec: Size, crop and normalization of the images; `normalize` has numbers.
        device: The torch.device of the model.
        functions: The functions of evaluation; see `predict_logits`.
        thresholds: Several labels: the probability from which on an image has each class.

    Example:
        ```python
        import slipform as sf

        classifier = sf.Classifier.load("runs/first")
        for prediction in classifier.predict(["cat.jpg", "dog.png"], top=1):
            print(prediction.path, prediction.classes[0])
        ```
    """

    def __init__(
        self, model: nn.Module, config: RunConfig, manifest: Manifest, folder: Path, device: str,
        thresholds: tuple[float, ...] = (),
    ) -> None:  # fmt: skip
        self.device = pick_device(device, 0)
        self.functions = inference_functions(model, config, self.device)
        self.model, self.config, self.manifest, self.folder = model, config, manifest, folder
        usual = (DEFAULT,) * manifest.num_classes
        self.thresholds = None if manifest.labels != "multi" else thresholds or usual
        self.spec: Augmentation = evaluation_augment(config).resolved(manifest.mean, manifest.std)

    @staticmethod
    def load(run: Path | str, device: str = "auto") -> Classifier:
        """Load the best epoch of a run, with the precision of the run.

        Args:
            run: The run folder.
            device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

        Raises:
            SlipformError: `run` is no run folder, or its best.safetensors is missing or damaged.
        """
        trained = load_trained(Path(run))
        return Classifier(
            trained.model, trained.config, trained.manifest, Path(run), device, trained.thresholds
        )

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return self.manifest.classes

    def predict(self, images: Image | Sequence[Image], top: int = 3) -> list[Prediction]:
        """The most probable classes of images.

        Args:
            images: One image or many: paths of files of any format, PIL images, or arrays uint8
                [H, W, 3] (RGB) or [H, W] (gray). An array [N, H, W, 3] is N images.
            top: The number of classes for each image, at least 1.

        Returns:
            One Prediction for each image, in order. An image that cannot be read has an `error`
            and no classes.

        Raises:
            ConfigError: `top` is less than 1.
        """
        return list(self.predictions(as_list(images), top))

    def predictions(self, images: Sequence[Image], top: int = 3) -> Iterator[Prediction]:
        """Like `predict`, but yield each prediction as soon as it is ready.

        Args:
            images: The images; see `predict`.
            top: The number of classes for each image, at least 1.

        Yields:
            One Prediction for each image, in order.
        """
        if top < 1:
            raise ConfigError(f"top = {top}: give 1 or more")
        for part in self._batches(images):
            empty = torch.empty(0, len(self.classes))
            logits = empty if part.tensor is None else self._logits(part.tensor)
            rows = named_rows(logits, self.classes, top, self.thresholds)
            for index, error in part.errors:
                image = images[index]
                path = Path(image) if isinstance(image, str | Path) else None
                classes, labels = ((), ()) if error else next(rows)
                yield Prediction(index, path, classes, error, labels)

    def _batches(self, images: Sequence[Image]) -> Iterator[ImageBatch]:
        precision, options = self.functions.precision, self.manifest.options
        return read_batches(images, self.spec, precision, self.device, options)

    def logits(self, images: Image | Sequence[Image]) -> Tensor:
        """The logits of images.

        Args:
            images: One image or many; see `predict`.

        Returns:
            float32 [N, C] on the CPU. softmax(1) gives probabilities.

        Raises:
            SlipformError: An image cannot be read.
        """
        found = []
        for part in self._batches(as_list(images)):
            for index, error in part.errors:
                if error:
                    raise SlipformError(f"image {index}: {error}")
            if part.tensor is not None:
                found.append(self._logits(part.tensor).cpu())
        return torch.cat(found) if found else torch.empty(0, len(self.classes))

    def evaluate(self, data: Path | str | None = None, split: str = "test") -> AnyEvaluation:
        """Measure loss and accuracy on a split of a dataset.

        Images are normalized with the mean and standard deviation of training. The dataset may
        have some of the model's classes, in any order: classes are matched by name.

        Args:
            data: A folder that prep wrote. Default: the dataset of the run.
            split: "train", "val" or "test".

        Returns:
            Loss (mean cross entropy), top-1, top-5 and confusion [C, C] over the model's classes.
            A LabelEvaluation if images have several labels.

        Raises:
            ConfigError: The dataset has a class that the model does not have.
            DatasetError: There is no such dataset or split.
        """
        with self.open_split(data, split) as loader:
            batches = labeled(loader, self.classes)
            process = Process(self.device)
            totals = totals_of(loader, process, len(self.classes), self.thresholds or ())
            return count(self.functions, batches, process, totals)

    def data_notes(self, data: Path | str | None = None, split: str = "test") -> list[str]:
        """Differences between a dataset and the run's dataset.

        Args:
            data: A folder that prep wrote. Default: the dataset of the run.
            split: "train", "val" or "test".

        Returns:
            One line if the data lacks classes of the model, and one if its split has other images.
        """
        return data_notes(self.manifest, dataset_of(self.config, data), split)

    def settings_for(self, data: Path | str | None = None) -> RunConfig:
        """The settings with which the splits of a dataset are opened; see `data.settings_for`.

        Args:
            data: A folder that prep wrote. Default: the dataset of the run.

        Raises:
            DatasetError: There is no such dataset.
        """
        return settings_for(self.config, self.manifest, data)

    def open_split(self, data: Path | str | None = None, split: str = "test") -> Loader:
        """Open a loader of a split with the model's size and normalization. The caller closes it.

        Args:
            data: A folder that prep wrote. Default: the dataset of the run. With data.fold, other
                images have the splits of their own dataset.
            split: "train", "val" or "test".

        Raises:
            ConfigError: The dataset has a class that the model does not have.
            DatasetError: There is no such dataset or split.
        """
        config = self.settings_for(data)
        given = read_manifest(config.data.folder)
        check_data(self.manifest, given, source_of(Path(config.data.folder)), self.folder)
        augment = self.config.augment.resolved(self.manifest.mean, self.manifest.std)
        config = config.replace("augment", augment)
        return open_loader(config, split, Process(self.device), batch_size=BATCH_SIZE)

    def export(
        self, format: str, out: Path | str | None = None, *, input: str = "normalized"
    ) -> Path:
        """Write the model as a file for other programs, and compare the file with the model.

        Args:
            format: "safetensors", "onnx" or "torch-export".
            out: The file, or a folder for model.safetensors, model.onnx or model.pt2. Default: the
                run folder.
            input: "normalized": float32 [N, 3, S, S] to logits. "pixels": images of any size, uint8
                [N, H, W, 3] (RGB), to probabilities; the file has the preprocessing of `predict`.

        Returns:
            The path of the file.

        Raises:
            SlipformError: A package is missing, another process uses the run folder of the file,
                or the outputs of the file and the model differ. No file is written.
            OSError: The file cannot be written.
        """
        return self.export_checked(format, out, input=input)[0]

    def export_checked(
        self, format: str, out: Path | str | None = None, *, input: str = "normalized"
    ) -> tuple[Path, float]:
        """Like `export`, but also return the largest difference of an output.

        Args:
            format: "safetensors", "onnx" or "torch-export".
            out, input: See `export`.

        Returns:
            The path, and the largest difference between outputs of the file and of the model.
        """
        metadata = {
            "model": self.config.model.name,
            "classes": json.dumps(self.classes, ensure_ascii=False),
            "image_size": str(self.spec.image_size),
            "resize": str(self.spec.resize),
            "normalize": json.dumps(self.spec.normalize),
            "labels": self.manifest.labels,
            **({} if self.thresholds is None else {"thresholds": json.dumps(self.thresholds)}),
        }
        out = Path(out or self.folder)
        return export(self.model, self.spec, self.functions, metadata, format, out, input)

    @torch.inference_mode()
    def _logits(self, images: Tensor) -> Tensor:
        return predict_logits(self.functions, images)
