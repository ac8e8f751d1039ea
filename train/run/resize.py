"""Another size of the training images: another loader at the same position.

In: an open run at the beginning of an epoch. Out: the run, with a loader and steps of the size of
that epoch. The order of the images and the random numbers do not depend on the size.
"""

from __future__ import annotations

from slipform.train.config.image_sizes import size_at
from slipform.train.run.open import Run
from slipform.train.run.steps import open_steps
from slipform.train.run.training_data import warm_up
from slipform.train.step.data import open_loader

__all__ = ["resize_if_due"]


def resize_if_due(run: Run) -> None:
    """Open the training data at the size of the present epoch, if it has another size.

    The executor stays the same. `resident` decodes the images again.

    Args:
        run: Its loader and its steps are replaced.
    """
    before, epoch = run.train, run.train.epoch + 1
    size = size_at(run.config, epoch)
    if size == before.augment.image_size or epoch > run.config.train.epochs:
        return
    position = before.state_dict()
    before.close()  # first: both may not fit into memory
    run.train = open_loader(
        run.config,
        "train",
        run.process,
        training=True,
        executor=before.executor_name,
        epoch=epoch,
    )
    run.train.load_state_dict(position)
    run.steps = open_steps(run.config, run.state, run.train, run.counters, run.process)
    run.recorder.say(f"epoch {epoch}: images of {size} px")
    warm_up(run.train, run.process, run.recorder.say)
