import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.tables.cells import NO_INSTANT, Cells
from shoal_core.data.tables.columns import meaning_digests
from shoal_core.data.tables.hashing import instant_digests, number_digests, plain_digests, row_hashes, text_digests

EXPECTED = [
    "5f05439a5adc06552ba46ae5c5697aba",
    "ddc3f81ff6afdbf364bf976a54a603cd",
    "ec4e7d1f01010e8070c2ba263f96f76e",
]
VALUE = st.none() | st.integers(-5, 5) | st.sampled_from([0.5, "a", "b", "", "1", "1.0", True, "TRUE"])


def hashes(columns):
    rows = len(next(iter(columns.values())))
    return row_hashes(((name, meaning_digests(Cells.of(values))) for name, values in columns.items()), rows)


def test_known_hashes():
    """The hash is part of the contract: shards of one version are compared by it."""
    found = hashes({"a": [1, "x", None], "b": ["2026", 0.5, True]})
    assert [row.tobytes().hex() for row in found] == EXPECTED


@given(st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=20), st.data())
def test_order_and_missing_columns_change_nothing(rows, data):
    left, right = [row[0] for row in rows], [row[1] for row in rows]
    whole = hashes({"a": left, "b": right})
    np.testing.assert_array_equal(hashes({"b": right, "c": [None] * len(rows), "a": left}), whole)
    cut = data.draw(st.integers(0, len(rows) - 1))
    np.testing.assert_array_equal(hashes({"a": left[cut:], "b": right[cut:]}), whole[cut:])


def test_different_meanings_have_different_hashes():
    values = [0, 1, 1.5, "a", "b", "0a", "true", "1_0", [1], [1, 2], {"a": 1}, "x" * 500]
    found = hashes({"a": values})
    assert len({row.tobytes() for row in found}) == len(values)
    assert hashes({"a": ["x"]}).tobytes() != hashes({"b": ["x"]}).tobytes()
    assert hashes({"a": ["x"], "b": ["y"]}).tobytes() != hashes({"a": ["y"], "b": ["x"]}).tobytes()


def test_equal_meanings_have_equal_hashes():
    found = hashes({"a": [1, 1.0, "1", " 1.0 ", "1e0"]})
    assert len({row.tobytes() for row in found}) == 1
    assert hashes({"a": [0.0, -0.0]})[0].tobytes() == hashes({"a": ["-0"]})[0].tobytes()
    assert hashes({"a": [True]}).tobytes() == hashes({"a": ["TRUE"]}).tobytes()


def test_digests_of_missing_values_are_zero():
    assert not number_digests(np.array([np.nan])).any()
    assert not instant_digests(np.array([NO_INSTANT], np.int64)).any()
    assert not text_digests([None]).any()
    assert number_digests(np.array([0.0])).any() and instant_digests(np.array([0], np.int64)).any()


def test_bits_are_even():
    found = row_hashes([("a", plain_digests(number_digests(np.arange(20_000.0))))], 20_000)
    bits = np.unpackbits(found, axis=1).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 0.02
    assert len(np.unique(found.view("V16"))) == 20_000
