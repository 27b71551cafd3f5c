"""Answers keep the order of their keys, whatever PutRecords refuses."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from shoal_core.serving.streams import packing
from shoal_core.serving.streams.packing import MAX_REQUEST_RECORDS, pack, requests

ANSWERS = st.lists(st.tuples(st.sampled_from("abcdef"), st.text(max_size=5)), max_size=60)


@given(answers=ANSWERS, refused=st.lists(st.booleans(), max_size=200))
def test_each_key_keeps_its_order_though_records_are_refused(answers, refused):
    lines = [(key, f"{number} {text.splitlines()}") for number, (key, text) in enumerate(answers)]
    refusals = iter(refused)
    taken: dict[str, list[str]] = defaultdict(list)
    for request in requests(pack(lines)):
        waiting = list(request)
        assert len({record.key for record in waiting}) == len(waiting) <= MAX_REQUEST_RECORDS
        while waiting:
            again = [record for record in waiting if next(refusals, False)]
            for record in waiting:
                if record not in again:
                    taken[record.key] += record.data.decode().splitlines()
            waiting = again
    expected: dict[str, list[str]] = defaultdict(list)
    for key, line in lines:
        expected[key].append(line)
    assert taken == expected


def test_requests_and_records_stay_within_their_limits(monkeypatch):
    assert [len(request) for request in requests(pack((str(n), "x") for n in range(1100)))] == [500, 500, 100]
    monkeypatch.setattr(packing, "MAX_RECORD_BYTES", 100)
    monkeypatch.setattr(packing, "MAX_REQUEST_BYTES", 250)
    packed = pack(("k", "x" * 40) for _ in range(5))
    assert [len(record.lines) for record in packed] == [2, 2, 1]
    assert [len(request) for request in requests(packed)] == [1, 1, 1]
    many = list(requests(pack((str(n), "x" * 90) for n in range(6))))
    assert [len(request) for request in many] == [2, 2, 2]
