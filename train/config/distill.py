"""[distill]: a trained model whose answers a run learns from, beside the labels.

In: values from TOML. Out: checked settings. `train.run.teacher` makes and stores the answers.
"""

from __future__ import annotations

from pydantic import Field

from slipform.train.config.section import Section

__all__ = ["DistillConfig"]


class DistillConfig(Section):
    """[distill]: a teacher (Hinton, Vinyals and Dean, 2015). Its answers are stored once.

    Attributes:
        teacher: The run folder of the teacher; "": there is none.
        share: The share of the teacher's answers in the loss, 0 to 1. The labels have the rest.
        temperature: Logits of teacher and student are divided by this number before softmax, in
            the teacher's share of the loss, which is multiplied by its square.
        top: The number of classes of each answer that are stored, the most probable ones. The
            other classes get equal parts of the remaining probability.
        answers: The folder for stored answers; "": the folder answers in `teacher`.
        sha256: The SHA-256 of the teacher's weights, which the run records. A run trains and
            continues with the same weights only; "": any weights.
    """

    teacher: str = ""
    share: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0, le=100)
    top: int = Field(default=10, ge=1)
    answers: str = ""
    sha256: str = ""
