"""Assignment of shards, order of batches, and verification of shards."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.shards import Tensors, encode_shard
from shoal_core.errors import BadDataset, NotFound
from shoal_core.training.batches import BatchStream, ShardCache, assign_shards
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import commit, table_spec


def numbered(samples: int) -> Tensors:
    """Samples that carry their own number."""
    numbers = np.repeat(np.arange(samples, dtype=np.float32)[:, None], 4, axis=1)
    return {"numbers": numbers, "target": np.arange(samples, dtype=np.int64) % 3}


def stream_over(samples: int, shard_samples: int, **options: int) -> BatchStream:
    store = MemoryStore()
    manifest = commit(store, table_spec(), {"train": numbered(samples)}, shard_samples)
    cache = ShardCache(10**6)
    settings = {"batch_size": 7, "seed": 1, "worker": 0} | options
    return BatchStream(manifest.train, lambda shard: cache.load(store, shard), **settings)


def drawn(stream: BatchStream, first: int, count: int) -> list[list[int]]:
    return [batch["numbers"][:, 0].astype(int).tolist() for batch in stream.batches(first, count)]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 40))
def test_every_shard_has_one_worker_and_loads_are_balanced(samples, workers):
    workers = min(workers, len(samples))
    shards = assign_shards(samples, workers)
    assert sorted(index for own in shards for index in own) == list(range(len(samples)))
    assert all(own for own in shards)
    loads = [sum(samples[index] for index in own) for own in shards]
    assert max(loads) - min(loads) <= max(samples)


def test_more_workers_than_shards_are_refused():
    with pytest.raises(ValueError, match="3 workers for 2 shards"):
        assign_shards([5, 5], 3)


@pytest.mark.parametrize("block_bytes", [10**9, 1])
def test_an_epoch_sees_every_sample_once(block_bytes):
    stream = stream_over(70, 16, block_bytes=block_bytes)
    first, second = drawn(stream, 0, 10), drawn(stream, 10, 10)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(70))
    assert first != second


@given(st.integers(0, 40), st.integers(0, 12), st.integers(1, 5))
def test_the_stream_continues_across_rounds(start, count, split):
    stream = stream_over(50, 16, block_bytes=2000)
    whole = drawn(stream, start, count)
    cut = min(split, count)
    assert drawn(stream, start, cut) + drawn(stream, start + cut, count - cut) == whole


def test_batches_are_full_and_keep_rows_together():
    stream = stream_over(10, 4)
    for batch in stream.batches(0, 5):
        assert batch["numbers"].shape == (7, 4)
        assert batch["target"].dtype == np.int64
        np.testing.assert_array_equal(batch["numbers"][:, 0].astype(int) % 3, batch["target"])


def test_seed_and_worker_change_the_order_and_nothing_else_does():
    order = drawn(stream_over(70, 16), 0, 10)
    assert drawn(stream_over(70, 16), 0, 10) == order
    assert drawn(stream_over(70, 16, seed=2), 0, 10) != order
    assert drawn(stream_over(70, 16, worker=1), 0, 10) != order


def test_a_batch_bigger_than_the_data_wraps_around():
    (batch,) = drawn(stream_over(5, 3, batch_size=12), 0, 1)
    assert set(batch) == set(range(5)) and len(batch) == 12


class CountingStore(MemoryStore):
    reads = 0

    def read(self, key, version=None):
        self.reads += 1
        return super().read(key, version)


def test_the_cache_keeps_shards_warm_within_its_bytes():
    store = CountingStore()
    manifest = commit(store, table_spec(), {"train": numbered(40)}, 10)
    size = manifest.train[0].bytes
    cache = ShardCache(2 * size)
    first, second, third = manifest.train[:3]
    for shard in (first, second, first, third, first):
        cache.load(store, shard)
    assert store.reads == 3
    assert cache.bytes == 2 * size
    cache.load(store, second)
    assert store.reads == 4


def test_a_shard_bigger_than_the_cache_is_kept_alone():
    store = CountingStore()
    manifest = commit(store, table_spec(), {"train": numbered(40)}, 20)
    cache = ShardCache(1)
    for shard in (*manifest.train, manifest.train[1]):
        cache.load(store, shard)
    assert store.reads == 2


def test_a_corrupt_shard_is_refused_by_name():
    store = MemoryStore()
    manifest = commit(store, table_spec(), {"train": numbered(40)}, 20)
    shard = manifest.train[1]
    data = bytearray(store.read(shard.key))
    data[-1] ^= 1
    store.write(shard.key, bytes(data))
    with pytest.raises(BadDataset, match=r"train/shard-00001\.safetensors.*sha256") as caught:
        ShardCache(10**6).load(store, shard)
    assert "Upload the data again" in caught.value.fix


def test_a_shard_with_another_number_of_samples_is_refused():
    store = MemoryStore()
    manifest = commit(store, table_spec(), {"train": numbered(40)}, 40)
    shard = manifest.train[0].model_copy(update={"samples": 39})
    with pytest.raises(BadDataset, match="its manifest says 39"):
        ShardCache(10**6).load(store, shard)


def test_a_missing_shard_is_not_found():
    manifest = commit(MemoryStore(), table_spec(), {"train": numbered(4)})
    with pytest.raises(NotFound):
        ShardCache(10).load(MemoryStore({"other": encode_shard({})}), manifest.train[0])
