"""Checkpoints and updates survive their bytes, and damaged bytes are refused."""

from __future__ import annotations

import numpy as np
import pytest

from shoal_core.data.shards import encode_shard
from shoal_core.errors import BadInput
from shoal_core.training.checkpoints import Checkpoint, Progress, Update


def checkpoint() -> Checkpoint:
    generator = np.random.default_rng(0)
    return Checkpoint(
        run_id="run",
        round=3,
        step=30,
        parameters={"b": np.zeros(2, np.float32), "a": generator.normal(size=(3, 2)).astype(np.float32)},
        state={"m.a": np.ones((3, 2), np.float32), "m.b": np.ones(2, np.float32)},
        momentum={"a": np.full((3, 2), 0.5, np.float32)},
        progress=Progress(best_round=2, best_score=(0.1 + 0.2, -1e-300), stale_rounds=1),
    )


def update() -> Update:
    return Update("run", 3, 1, {"a": np.ones(2, np.float32)}, {"m.a": np.zeros(2, np.float32)}, 100, 64, 0.1, 2)


def test_a_checkpoint_survives_its_bytes():
    before = checkpoint()
    after = Checkpoint.decode(before.encode(), "c")
    assert (after.run_id, after.round, after.step, after.progress) == ("run", 3, 30, before.progress)
    for group in ("parameters", "state", "momentum"):
        assert getattr(after, group).keys() == getattr(before, group).keys()
        for name, array in getattr(before, group).items():
            np.testing.assert_array_equal(getattr(after, group)[name], array)
    assert after.encode() == before.encode()


def test_the_order_of_tensors_does_not_change_the_bytes():
    before = checkpoint()
    turned = Checkpoint(**{**vars(before), "parameters": dict(reversed(before.parameters.items()))})
    assert turned.encode() == before.encode()


def test_an_update_survives_its_bytes():
    after = Update.decode(update().encode(), "u")
    assert (after.weight, after.samples, after.loss_sum, after.steps) == (100, 64, 0.1, 2)
    assert after.encode() == update().encode()


def test_a_cut_checkpoint_is_refused():
    data = checkpoint().encode()
    with pytest.raises(BadInput, match="Checkpoint 'x'"):
        Checkpoint.decode(data[:-1], "Checkpoint 'x'")


def test_files_of_another_kind_are_refused():
    with pytest.raises(BadInput, match="no header"):
        Checkpoint.decode(encode_shard({"param.a": np.ones(1, np.float32)}), "c")
    with pytest.raises(BadInput, match="broken header"):
        Checkpoint.decode(update().encode(), "c")


def test_an_unexpected_tensor_is_refused():
    wrong = Checkpoint(**{**vars(checkpoint()), "parameters": {"a": np.ones(2, np.float64)}})
    with pytest.raises(BadInput, match=r"'param.a' \(float64\)"):
        Checkpoint.decode(wrong.encode(), "c")


def test_progress_remembers_the_first_best_round():
    progress = Progress()
    for round_, score in enumerate([(0.5, -1.0), (0.7, -1.0), (0.7, -1.0), (0.6, -0.1)], 1):
        progress = progress.after(round_, score)
    assert progress == Progress(best_round=2, best_score=(0.7, -1.0), stale_rounds=2)
