"""What changes at the beginning of an epoch: size of images, layers that learn, teacher's answers.

In: an open run before the first step of an epoch. Out: the run, with a loader and steps for the
size of that epoch, with the layers frozen for which it is time, and with the answers of a teacher
for its images.
"""

from __future__ import annotations

from collections.abc import Callable

from slipform.models.freeze import select
from slipform.train.config.image_sizes import size_at
from slipform.train.machine.distributed import Requests
from slipform.train.run.ending import stop
from slipform.train.run.open import Run
from slipform.train.run.steps import open_steps
from slipform.train.run.training_data import warm_up
from slipform.train.step.build import freeze_late, unfreeze
from slipform.train.step.data import open_loader

__all__ = ["begin_epoch"]


def begin_epoch(run: Run) -> None:
    """Change the size of images, freeze or unfreeze layers, load the answers of a teacher.

    A second call changes nothing.

    Args:
        run: The run, before the first step of an epoch or of the rest of an epoch. Its loader and
            steps may be replaced.

    Raises:
        Interrupted: The run was asked to stop while the teacher answered; a checkpoint was written.
    """
    _resize_if_due(run)
    _unfreeze_if_due(run)
    _freeze_if_due(run)
    _teach(run)


def _resize_if_due(run: Run) -> None:
    """Open the training data at the size of the present epoch, if it has another size.

    It is another loader at the same position: the order of the images and the random numbers do not
    depend on the size. The executor stays the same. `resident` decodes the images again.
    """
    before, epoch = run.train, run.train.epoch + 1
    size = size_at(run.config, epoch)
    if size == before.augment.image_size or epoch > run.config.train.epochs:
        return
    position = before.state_dict()
    before.close()  # first: it frees resident pixels, and both may not fit into memory
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


def _unfreeze_if_due(run: Run) -> None:
    due = run.config.train.unfreeze_at_epoch
    if (
        due
        and run.state.epoch + 1 >= due
        and not all(p.requires_grad for p in run.state.model.parameters())
    ):
        run.recorder.say(f"epoch {run.state.epoch + 1}: all layers learn from now on")
        unfreeze(run.config, run.state, run.process)
        run.steps.forget()


def _freeze_if_due(run: Run) -> None:
    due, state = run.config.train.freeze_at_epoch, run.state
    if not due or state.epoch + 1 < due:
        return
    names = select(state.model, run.config.train.freeze_late)
    if any(p.requires_grad for name, p in state.model.named_parameters() if name in names):
        layers = ", ".join(run.config.train.freeze_late)
        run.recorder.say(f"epoch {state.epoch + 1}: {layers} no longer learn")
        freeze_late(run.config, state, run.process)
        run.steps.forget(ready=True)


def _teach(run: Run) -> None:
    if run.teacher is None or run.train.epoch >= run.config.train.epochs:
        return
    progress = run.recorder.progress

    def begin(num_batches: int) -> Callable[[], None]:
        progress.begin_teacher(run.train.epoch + 1, run.config.train.epochs, num_batches)
        return progress.step

    def asked() -> bool:
        return run.agreement.any(Requests(run.stop_requested.is_set())).stop

    table = run.teacher.begin_epoch(run.train, run.state.teacher, begin, asked)
    if table is None:
        stop(run)
    run.state.teacher = table
