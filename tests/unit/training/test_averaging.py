"""The moving average of the weights."""

from __future__ import annotations

import numpy as np
import pytest

from shoal_core.training.averaging import WeightAverage
from shoal_core.training.checkpoints import Checkpoint


def checkpoint(round_: int, *values: float) -> Checkpoint:
    array = np.array(values, np.float32)
    return Checkpoint(
        "run", round_, round_ * 4, {"a": array}, {"m.a": array}, momentum={"a": array}, buffers={"mean": 10 * array}
    )


def test_the_average_by_hand():
    average = WeightAverage(0.75)
    first = average.after_round(None, checkpoint(1, 4.0, 8.0))
    assert first.parameters["a"].tolist() == [4.0, 8.0]
    second = average.after_round(first, checkpoint(2, 8.0, 0.0))
    assert second.parameters["a"].tolist() == [5.0, 6.0]
    assert second.buffers["mean"].tolist() == [50.0, 60.0]
    assert second.parameters["a"].dtype == np.float32
    assert (second.round, second.step) == (2, 8)


def test_it_holds_nothing_that_only_training_needs():
    found = WeightAverage(0.9).after_round(None, checkpoint(1, 1.0))
    assert (found.state, found.momentum) == ({}, {})


def test_it_converges_to_constant_weights():
    found = WeightAverage(0.5).after_round(None, checkpoint(1, 0.0))
    for round_ in range(2, 40):
        found = WeightAverage(0.5).after_round(found, checkpoint(round_, 3.0))
    assert found.parameters["a"][0] == pytest.approx(3.0)
