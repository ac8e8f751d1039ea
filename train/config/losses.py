"""The losses of a run: one class for each name, with the settings that it reads.

In: values from TOML. Out: checked settings. `train.step.loss` makes the functions.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from slipform.train.config.section import ByClass, Section

__all__ = [
    "Asymmetric",
    "BinaryCrossEntropy",
    "ClassWeights",
    "CrossEntropy",
    "Focal",
    "LossConfig",
    "MultiMargin",
]

ClassWeights = Literal["none", "balanced"] | ByClass


class _Loss(Section):
    """The settings of every loss.

    Attributes:
        name: The loss.
    """

    name: str
    # The kinds of labels (see Manifest.labels) that the loss can learn from.
    label_kinds: ClassVar[tuple[str, ...]] = ("single", "soft")
    # The setting with the weights of classes; "": the loss has none.
    weights_setting: ClassVar[str] = ""

    @property
    def weights(self) -> ClassWeights:
        """The weights of classes; "none" where the loss has no such setting."""
        found: ClassWeights = getattr(self, self.weights_setting, "none")
        return found

    def unweighted(self) -> Self:
        """The loss without weights of classes."""
        none = {self.weights_setting: "none"} if self.weights_setting else {}
        return self.model_copy(update=none)


class _Weighted(_Loss):
    """A loss of one label for each image.

    Attributes:
        class_weights: A factor of the loss for the images of each class. "balanced": the number of
            images / (the number of classes * the images of the class), as in scikit-learn. Or a
            table, such as { cat = 2.0 }: other classes have 1. The loss is the mean over images,
            not over weights, so that several processes train like one.
    """

    class_weights: ClassWeights = "none"
    weights_setting: ClassVar[str] = "class_weights"


class CrossEntropy(_Weighted):
    """Cross entropy.

    Attributes:
        label_smoothing: Share of each label that all classes get (Szegedy et al., 2016).
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Focal(_Weighted):
    """Cross entropy, times (1 - probability of the label) ** gamma (Lin et al., 2017).

    Attributes:
        gamma: The exponent; 0: cross entropy.
    """

    name: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0)


class MultiMargin(_Weighted):
    """torch.nn.MultiMarginLoss.

    Attributes:
        margin: The margin by which the logit of the true class must exceed every other logit.
        power: The exponent of the violation of the margin (torch's p).
    """

    name: Literal["multi_margin"] = "multi_margin"
    margin: float = Field(default=1.0, gt=0)
    power: Literal[1, 2] = 1
    label_kinds: ClassVar[tuple[str, ...]] = ("single",)


class BinaryCrossEntropy(_Loss):
    """A binary cross entropy for each class, for several labels an image.

    The loss of an image is the mean over the classes, as in torch.nn.BCEWithLogitsLoss. An image
    with one label is 1 for its class and 0 for the others.

    Attributes:
        label_smoothing: A target t becomes t * (1 - label_smoothing) + label_smoothing / 2.
        positive_weights: A factor of the loss of each class for the images that have it (torch's
            pos_weight). "balanced": the images without the class / the images with it. Or a table,
            such as { cat = 2.0 }: other classes have 1.
    """

    name: Literal["bce"] = "bce"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    positive_weights: ClassWeights = "none"
    weights_setting: ClassVar[str] = "positive_weights"
    label_kinds: ClassVar[tuple[str, ...]] = ("single", "multi", "soft")


class Asymmetric(_Loss):
    """The asymmetric loss for several labels an image (Ridnik et al., ICCV 2021).

    A binary focal loss for each class, in which easy negatives have a smaller weight. The loss of
    an image is the sum over the classes. With equal gammas and no clip it is the binary focal loss.

    Attributes:
        gamma_negative: The power for classes that an image does not have.
        gamma_positive: The power for classes that an image has.
        clip: Probabilities of negatives are reduced by this number; those below it count as 0.
    """

    name: Literal["asymmetric"] = "asymmetric"
    gamma_negative: float = Field(default=4.0, ge=0)
    gamma_positive: float = Field(default=0.0, ge=0)
    clip: float = Field(default=0.05, ge=0, lt=1)
    label_kinds: ClassVar[tuple[str, ...]] = ("single", "multi", "soft")


LossConfig = Annotated[
    CrossEntropy | MultiMargin | Focal | BinaryCrossEntropy | Asymmetric,
    Field(discriminator="name"),
]
