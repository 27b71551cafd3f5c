import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.cutting import MAX_ITEMS, MAX_SCANNED_BYTES, check_scanned, count_items, cut_evenly
from shoal_core.errors import TooLarge


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 20))
def test_ranges_cover_everything_once(weights, pieces):
    found = cut_evenly(weights, pieces)
    assert [index for start, stop in found for index in range(start, stop)] == list(range(len(weights)))
    assert len(found) <= pieces
    if found:
        largest = max(sum(weights[start:stop]) for start, stop in found)
        assert largest <= sum(weights) / pieces + max(weights)


def test_counts():
    assert count_items(1797, 700_000, 64, None) == 4
    assert count_items(1797, 700_000, 64, 8) == 16
    assert count_items(10, 1000, 64, 8) == 1
    assert count_items(1_000_000, 1024**3, 100, 2) == 32
    assert count_items(10**8, 4 * 10**10, 300, 2) == MAX_ITEMS


@pytest.mark.parametrize(
    ("samples", "source", "encoded", "reason", "fix"),
    [
        (10**9, 140 * 2**30, 10, "140.0 GiB of data: more than the 112 GiB that 900", "several datasets"),
        (10**6, 2**30, 2**20, "976.6 GiB once it is encoded", "image_size"),
    ],
)
def test_a_set_that_no_plan_holds_is_refused_by_its_size(samples, source, encoded, reason, fix):
    with pytest.raises(TooLarge) as caught:
        count_items(samples, source, encoded, None)
    assert reason in caught.value.reason and fix in caught.value.fix


def test_more_text_than_one_function_can_read_is_refused_with_what_can():
    check_scanned(MAX_SCANNED_BYTES)
    with pytest.raises(TooLarge, match=r"100.0 GiB of CSV or JSON: more than the 32 GiB") as caught:
        check_scanned(100 * 2**30)
    assert "Parquet" in caught.value.fix
