"""Runs from data to files: when a training stops by itself. The rest is in test_scripts.py."""

import pytest

from distillation.training.run import time_keeper


@pytest.mark.parametrize(
    ("limit", "ends", "answers"),
    [
        # Minutes from 1,000 s on; ends of epochs in seconds.
        (10, [1100, 1200, 1300, 1400, 1500, 1600], [False] * 5 + [True]),
        (10, [1100, 1350, 1500], [False, False, True]),
        (10, [1299, 1300], [False, False]),
        (10, [1301], [True]),
        (0, [1000.1], [True]),
        (None, [1e9], [False]),
    ],
)
def test_another_epoch_has_to_fit(
    limit: float | None, ends: list[float], answers: list[bool]
) -> None:
    """A run stops when an epoch as long as the longest so far would end after its time."""
    clock = iter([1000, *ends])
    time_is_up = time_keeper(limit, lambda: next(clock))
    assert [time_is_up() for _ in ends] == answers
