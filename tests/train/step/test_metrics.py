"""Counts compared with loops in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from slipform.train.step.metrics import Totals


def test_counts_every_image_once_whatever_the_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    num, classes = 53, 8
    logits = torch.randn(num, classes, generator=generator)
    labels = torch.randint(classes - 1, (num,), generator=generator)  # no image of the last class
    totals = Totals.zeros(classes, torch.device("cpu"))
    for first in range(0, num, 10):
        part, names = logits[first : first + 10], labels[first : first + 10]
        pad = 10 - len(part)
        totals.add(F.pad(part, (0, 0, 0, pad), value=9.0), F.pad(names, (0, pad), value=-100))
    result = totals.result()
    right = [int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True)]
    in_five = [
        int(label) in sorted(range(classes), key=lambda c: -float(row[c]))[:5]
        for row, label in zip(logits, labels, strict=True)
    ]
    assert result.num_images == num
    assert result.top1 == sum(right) / num
    assert result.top5 == sum(in_five) / num
    assert result.loss == pytest.approx(float(F.cross_entropy(logits.double(), labels)), rel=1e-6)
    for c in range(classes - 1):
        of_class = [ok for ok, label in zip(right, labels, strict=True) if label == c]
        assert result.per_class[c] == pytest.approx(sum(of_class) / len(of_class))
    assert math.isnan(result.per_class[-1])
    assert int(result.confusion[3, 5]) == sum(
        int(row.argmax()) == 5 and label == 3 for row, label in zip(logits, labels, strict=True)
    )


def test_fewer_than_five_classes_and_no_images() -> None:
    totals = Totals.zeros(3, torch.device("cpu"))
    totals.add(torch.eye(3), torch.tensor([0, 0, 2]))
    result = totals.result()
    assert [result.top1, result.top5] == pytest.approx([2 / 3, 1.0])
    assert math.isnan(Totals.zeros(3, torch.device("cpu")).result().top1)
