import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.tables import coding
from shoal_core.data.tables.coding import number_keys

KEY = st.tuples(st.integers(0, 3), st.integers(0, 2**64 - 1) | st.integers(0, 3))


def by_dictionary(keys):
    index, firsts = {}, []
    codes = []
    for row, key in enumerate(keys):
        if key not in index:
            index[key] = len(index)
            firsts.append(row)
        codes.append(index[key])
    return codes, firsts


def words_of(keys):
    return [np.array([key[word] for key in keys], np.uint64) for word in (0, 1)]


@settings(max_examples=200, deadline=None)
@given(st.lists(KEY, max_size=80))
def test_keys_are_numbered_as_they_appear(keys):
    codes, firsts = number_keys(words_of(keys), None, len(keys))
    assert (codes.tolist(), firsts.tolist()) == by_dictionary(keys)


@settings(max_examples=100, deadline=None)
@given(st.lists(KEY, max_size=60), st.data())
def test_rows_without_a_key_have_none(keys, data):
    has = data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    rows = np.flatnonzero(np.array(has, bool))
    chosen = [keys[row] for row in rows]
    codes, firsts = number_keys(words_of(chosen), rows, len(keys))
    known, places = by_dictionary(chosen)
    assert codes[rows].tolist() == known and firsts.tolist() == [int(rows[place]) for place in places]
    assert (codes[~np.array(has, bool)] == -1).all()


def test_keys_that_always_collide_are_sorted(monkeypatch):
    monkeypatch.setattr(coding, "_slots", lambda words, multiplier, shift: np.zeros(len(words[0]), np.int64))
    keys = [(number % 7, number % 11) for number in range(200)]
    codes, firsts = number_keys(words_of(keys), None, len(keys))
    assert (codes.tolist(), firsts.tolist()) == by_dictionary(keys)


def test_many_distinct_keys():
    keys = np.random.default_rng(0).permutation(100_000).astype(np.uint64)
    codes, firsts = number_keys([np.concatenate([keys, keys[::-1]])], None, 200_000)
    np.testing.assert_array_equal(codes, np.concatenate([np.arange(100_000), np.arange(100_000)[::-1]]))
    np.testing.assert_array_equal(firsts, np.arange(100_000))
