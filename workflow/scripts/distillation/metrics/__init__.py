"""Metrics of the table: one file each, and what evaluation asks of any of them.

A metric's file has `Settings`, its declaration, and `measure(logits, labels, teacher_logits)`,
which returns in the metric's unit a value for each image, (N,), whose mean is the metric, a scalar
where images have none, or None where these predictions have no such metric. Letters: N images, K
classes; logits are (N, K) in float32, labels (N,) in int64, the teacher's logits (N, K) or None,
all on the CPU. The images are those of the split that `Settings` names.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from torch import Tensor

from distillation.measuring.answers import BySplit
from distillation.settings import plugins
from distillation.settings.base import MetricSettings


class Measured(NamedTuple):
    """What metrics.json says of a metric, and its value for each test image (N,), if it has one."""

    entry: dict[str, Any]
    per_image: np.ndarray | None


def measure_metric(
    name: str, settings: MetricSettings, answers: BySplit, teacher: Mapping[str, Tensor]
) -> Measured | None:
    """Return a metric of a network's answers, with what tables and verdicts need to know of it.

    `teacher` has the logits of the network's teacher, by split; None where there is no such metric.

    Raises:
        ValueError: it is NaN or infinite.
    """
    measure = plugins.load("metrics", name).measure
    kind = type(settings)
    own = answers[kind.split]
    values = cast(Tensor | None, measure(*own, teacher.get(kind.split)))
    if values is None:
        return None
    value = values.mean().item()
    if not math.isfinite(value):
        raise ValueError(f"the metric {name} is {value}; allowed: a finite number, or None")
    entry = {
        "value": value,
        "label": kind.label,
        "unit": kind.unit,
        "decimals": kind.decimals,
        "smallest_difference": settings.smallest_difference,
        "higher_is_better": kind.higher_is_better,
        "reason": kind.reason,
        "split": kind.split,
        "images": len(own.labels),
        "of_each_image": bool(values.dim()),
    }
    # Networks are compared on test images, so a value for each image is of these.
    by_image = values.dim() and kind.split == "test"
    return Measured(entry, values.numpy() if by_image else None)
