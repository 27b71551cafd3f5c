import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.pieces import (
    SKETCH_ROWS,
    as_records,
    decode_piece,
    encode_piece,
    field_of,
    layout_of,
    order_rows,
    sketch_rows,
)
from shoal_core.data.shards import encode_shard, new_shard
from shoal_core.data.splits import hash_words


def hashes_of(values):
    return np.array([list(int(value).to_bytes(16, "big")) for value in values], np.uint8).reshape(len(values), 16)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_rows_are_ordered_by_position_hash_and_appearance(rows):
    position = np.array([row[0] for row in rows], np.int64)
    order = order_rows(position, hashes_of([row[1] for row in rows]))
    assert order.tolist() == sorted(range(len(rows)), key=lambda place: (*rows[place], place))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40_000), st.sampled_from([50, 1000, 1100, 10**6]), st.booleans())
def test_a_sketch_holds_the_smallest_distinct_hashes(rows, distinct, timed):
    generator = np.random.default_rng(rows)
    known = generator.integers(0, 256, (distinct if distinct < 10**6 else max(1, rows), 16), dtype=np.uint8)
    hashes = known[generator.integers(0, len(known), rows)]
    times = generator.random(rows) if timed else None
    words, first = np.unique(hash_words(hashes)[0], return_index=True)
    found = sketch_rows(hashes, times)
    assert found.hashes == tuple(words[:SKETCH_ROWS].tolist())
    assert found.times == (tuple(times[first[:SKETCH_ROWS]].tolist()) if timed else ())


def test_a_piece_holds_its_samples_in_order():
    generator = np.random.default_rng(0)
    rows = 40_000  # more than are put together at once
    tensors = {
        "position": generator.permutation(rows).astype(np.int64),
        "feature_hash": generator.integers(0, 256, (rows, 16), dtype=np.uint8),
        "row_hash": generator.integers(0, 256, (rows, 16), dtype=np.uint8),
        "place": np.arange(rows),
        "numbers": generator.random((rows, 3), dtype=np.float32),
        "target": generator.integers(0, 9, rows),
        "near_hash": generator.integers(0, 9, (rows, 2)).astype(np.uint64),
    }
    order = order_rows(tensors["position"], tensors["row_hash"])
    layout = layout_of(tensors)
    found = decode_piece(bytes(encode_piece(tensors, layout, order)), layout)
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array[order], err_msg=name)


def test_records_and_their_fields():
    table = np.zeros(3, np.dtype([("a", "<i8"), ("b", "<f4", (2, 2)), ("c", "u1")]))
    table["b"] = np.arange(12).reshape(3, 2, 2)
    found = field_of(table, "b")
    assert found.dtype == np.float32 and found.shape == (3, 2, 2) and found.flags.c_contiguous
    np.testing.assert_array_equal(found, table["b"])
    assert field_of(table[:0], "b").shape == (0, 2, 2)
    assert as_records(np.zeros((0, 4), np.int32)).shape == (0,)
    assert as_records(found).dtype.itemsize == 16


def test_a_shard_filled_in_is_a_shard_encoded():
    tensors = {"b": np.arange(6, dtype=np.uint8), "a": np.arange(6.0).reshape(3, 2), "none": np.zeros((0, 2), np.int64)}
    data, views = new_shard({name: (array.dtype, array.shape) for name, array in tensors.items()})
    for name, array in tensors.items():
        views[name][:] = array
    assert bytes(data) == encode_shard(tensors)
