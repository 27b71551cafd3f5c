"""Small updates: how much rounding loses, and that nothing of it is lost for good."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shoal_core.data.shards import decode_shard
from shoal_core.errors import BadInput
from shoal_core.training.checkpoints import Checkpoint, Update
from shoal_core.training.compression import BLOCK, compress, from_bfloat16, read_lost, read_update, to_bfloat16

NUMBERS = st.floats(-float(2**100), float(2**100), width=32, allow_subnormal=False)


def checkpoint(values: np.ndarray) -> Checkpoint:
    return Checkpoint("run", 3, 8, {"a": values}, {})


def update(values: np.ndarray, state: np.ndarray | None = None) -> Update:
    slots = {} if state is None else {"m.a": state}
    return Update("run", 4, 1, {"a": values}, slots, 5, 10, 2.5, 4, {"mean": values[:1]})


@given(arrays(np.float32, st.integers(1, 40), elements=NUMBERS))
def test_bfloat16_is_the_nearest_with_ties_to_even(values):
    bits = values.view(np.uint32)
    below = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    above = ((bits & np.uint32(0xFFFF0000)) + np.uint32(0x10000)).view(np.float32)
    found = from_bfloat16(to_bfloat16(values)).astype(np.float64)
    exact = values.astype(np.float64)
    to_below, to_above = abs(exact - below), abs(above.astype(np.float64) - exact)
    even = (bits >> np.uint32(16)) & np.uint32(1) == 0
    takes_below = (to_below < to_above) | ((to_below == to_above) & even)
    np.testing.assert_array_equal(found, np.where(takes_below, below, above))


@pytest.mark.parametrize("compression", ["bf16", "int8"])
@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_an_update_comes_back_within_rounding(compression, size):
    draw = np.random.default_rng(size)
    before = draw.normal(size=size).astype(np.float32)
    after = before + draw.normal(scale=0.01, size=size).astype(np.float32)
    data, lost = compress(update(after, after), checkpoint(before), {}, compression)
    found = read_update(data, "it", checkpoint(before))
    assert (found.run_id, found.round, found.worker, found.weight, found.loss_sum) == ("run", 4, 1, 5, 2.5)
    assert found.buffers["mean"] == after[:1]
    way = np.abs(after - before)
    bound = way * 2**-8 if compression == "bf16" else np.full(size, way.max() / 127)
    error = np.abs(found.parameters["a"] - after)
    assert (error <= bound + 1e-6).all()
    np.testing.assert_allclose(found.state["m.a"], after, rtol=2**-8)
    np.testing.assert_allclose(read_lost(lost, "it")["a"], after - found.parameters["a"], atol=1e-6)


def test_one_outlier_costs_only_its_block():
    way = np.full(2 * BLOCK, 1e-3, np.float32)
    way[0] = 100.0
    data, _ = compress(update(way), checkpoint(np.zeros_like(way)), {}, "int8")
    found = read_update(data, "it", checkpoint(np.zeros_like(way))).parameters["a"]
    np.testing.assert_allclose(found[BLOCK:], way[BLOCK:], rtol=1e-5)
    assert found[1] == 0


@pytest.mark.parametrize("compression", ["bf16", "int8"])
def test_what_rounding_loses_is_sent_later(compression):
    """Steps far below what a code can tell add up all the same."""
    start = np.zeros(BLOCK, np.float32)
    way = np.full(BLOCK, 1e-4, np.float32)
    way[0] = 1.0
    sent, lost = np.zeros(BLOCK), {}
    for _ in range(100):
        data, left = compress(update(way), checkpoint(start), lost, compression)
        sent += read_update(data, "it", checkpoint(start)).parameters["a"]
        lost = read_lost(left, "it")
    np.testing.assert_allclose(sent[1:], 100 * 1e-4, atol=1 / 127)
    np.testing.assert_allclose(sent[0], 100, rtol=1e-3)
    assert sent[1] > 0


def test_the_files_are_small():
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    start = checkpoint(np.zeros_like(values))
    plain = len(update(values, values).encode())
    sizes = {kind: len(compress(update(values, values), start, {}, kind)[0]) for kind in ("bf16", "int8")}
    assert sizes["bf16"] / plain == pytest.approx(1 / 2, rel=0.01)
    assert sizes["int8"] / plain == pytest.approx(3 / 8, rel=0.01)


def test_a_tensor_of_zeros_and_a_scalar():
    for values in (np.zeros((3, 4), np.float32), np.float32(2.0).reshape(())):
        start = Checkpoint("run", 0, 0, {"a": np.zeros_like(values)}, {})
        data, _ = compress(Update("run", 1, 0, {"a": values}, {}, 1, 1, 1.0, 1), start, {}, "int8")
        np.testing.assert_array_equal(read_update(data, "it", start).parameters["a"], values)


def test_a_plain_update_is_read_too_and_a_wrong_one_is_named():
    values = np.arange(4, dtype=np.float32)
    start = checkpoint(np.zeros_like(values))
    found = read_update(update(values).encode(), "it", start)
    assert found.encode() == update(values).encode()
    data, lost = compress(update(values), start, {}, "int8")
    with pytest.raises(BadInput, match="other parameters"):
        read_update(data, "Update 'u'", checkpoint(np.zeros(5, np.float32)))
    with pytest.raises(BadInput):
        read_update(data[:-3], "Update 'u'", start)
    assert decode_shard(lost)["a"].dtype == np.uint16
