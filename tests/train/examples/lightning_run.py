"""Lightning with Slipform's loaders, for test_frameworks.py: python -m
tests.train.examples.lightning_run

In: data/shapes in the working folder. Out: a line of JSON on standard output: the samples of each
epoch and each validation, in Lightning and in a plain loop.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings

import lightning
import torch

import slipform as sf

AUGMENT = sf.Augmentation(image_size=16, resize=20, crop="random_resized", flip="horizontal")


class Noting(lightning.LightningModule):  # type: ignore[misc]
    """A small model that records its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3 * 16 * 16, 6)
        self.trained: list[list[int]] = []
        self.validated: list[list[int]] = []
        self.sums: list[float] = []

    def on_train_epoch_start(self) -> None:
        self.trained.append([])

    def on_validation_epoch_start(self) -> None:
        self.validated.append([])

    def training_step(self, batch: sf.Batch, number: int) -> torch.Tensor:
        self.trained[-1] += batch.indices.tolist()
        self.sums.append(float(batch.images.double().sum()))
        logits = self.layer(batch.images.flatten(1))
        return torch.nn.functional.cross_entropy(logits, batch.labels)

    def validation_step(self, batch: sf.Batch, number: int) -> None:
        self.validated[-1] += [index for index in batch.indices.tolist() if index >= 0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loaders() -> tuple[sf.Loader, sf.Loader]:
    """Record the start of training and of validation."""
    train = sf.Loader("data/shapes", "train", AUGMENT, batch_size=32, seed=3)
    return train, sf.Loader("data/shapes", "val", AUGMENT, batch_size=32, training=False)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    net, (train, val) = Noting(), loaders()
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=1,
    )
    trainer.fit(net, train, val)
    plain, again = loaders()
    seen = [list(plain) for _ in range(3)]
    epochs = [[index for batch in epoch for index in batch.indices.tolist()] for epoch in seen]
    sums = [float(batch.images.double().sum()) for epoch in seen for batch in epoch]
    for loader in (train, val, plain, again):
        loader.close()
    found = {
        "trained": net.trained,
        "validated": net.validated,
        "epochs": epochs,
        "same_images": net.sums == sums,
    }
    sys.stdout.write(f"\n{json.dumps(found)}\n")
