import json

import pytest

from shoal_core.data.quality import quarantine as module
from shoal_core.data.quality.findings import QuarantineReport
from shoal_core.data.quality.quarantine import Quarantine, merge_quarantines, quarantine_planned, read_quarantine
from shoal_core.data.report import DropTally
from shoal_core.errors import BadRequest, NotFound
from shoal_core.keys import DatasetKeys
from shoal_core.registry.reports import quarantined_file, report_page
from tests.support.stores import MemoryStore

KEYS = DatasetKeys("set", "v1")


def filled(item, samples, store):
    quarantine = Quarantine(KEYS, item)
    tally = DropTally(quarantine)
    for place, raw in samples:
        tally.add("a.zip", place, "bad_image", f"{place!r} doesn't decode.", "Replace it.", raw=raw)
    return quarantine.write(store)


@pytest.fixture
def store():
    return MemoryStore({KEYS.request: b"{}"})


def test_files_and_rows_are_kept_as_they_were_with_the_reason(store):
    samples = [("cats/7.PNG", b"\x89PNG\xff"), ("line 1,204", b'a,"b\n'), ("notes", b"x"), ("lost", None)]
    assert filled(3, samples, store) == QuarantineReport(samples=4, bytes=11)
    page = read_quarantine(store, "set", "v1")
    assert page.after is None
    image, row, odd, lost = page.samples
    assert (image.place, image.code, image.fix, image.key) == (
        "cats/7.PNG", "bad_image", "Replace it.", "quarantine/set/v1/item-00003/0000.png",
    )  # fmt: skip
    assert store.read(image.key) == b"\x89PNG\xff"
    assert (row.row, row.key, odd.key) == ('a,"b\n', None, "quarantine/set/v1/item-00003/0002.bin")
    assert (lost.row, lost.key, lost.bytes) == (None, None, 0)
    assert quarantined_file(store, "set", "v1", "item-00003", "0000.png") == b"\x89PNG\xff"


def test_a_repeated_item_writes_the_same_objects(store):
    filled(0, [("a.png", b"1"), ("line 2", b"x,y")], store)
    first = dict(store.objects)
    filled(0, [("a.png", b"1"), ("line 2", b"x,y")], store)
    assert store.objects == first


def test_nothing_bad_writes_nothing(store):
    assert filled(0, [], store) == QuarantineReport() and list(store.keys("quarantine/")) == []


def test_what_has_no_room_is_counted(store, monkeypatch):
    monkeypatch.setattr(module, "MAX_SAMPLES", 3)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    report = filled(0, [("a.png", b"x" * 6), ("b.png", b"y" * 6), ("c.png", b"z" * 4), ("d", None), ("e", None)], store)
    assert report == QuarantineReport(samples=3, bytes=10, left_out=2)
    assert [sample.place for sample in read_quarantine(store, "set", "v1").samples] == ["a.png", "c.png", "d"]
    assert merge_quarantines([report, report]) == QuarantineReport(samples=6, bytes=20, left_out=4)


def test_pages_hold_every_sample_once(store):
    for item, count in enumerate((3, 0, 4, 1)):
        filled(item, [(f"{item}-{number}.png", b"x") for number in range(count)], store)
    tally = DropTally()
    tally.add("a.zip", "../evil", "unsafe_name", "It leads out of the archive.")
    assert quarantine_planned(store, KEYS, tally.total()) == QuarantineReport(samples=1)
    whole = [sample.place for sample in read_quarantine(store, "set", "v1").samples]
    assert len(whole) == 9 and whole[-1] == "../evil"
    for limit in range(1, 10):
        found, after = [], None
        while True:
            page = read_quarantine(store, "set", "v1", after, limit)
            assert len(page.samples) <= limit
            found += [sample.place for sample in page.samples]
            after = page.after
            if after is None:
                break
        assert found == whole


def test_what_isnt_there_is_told(store):
    with pytest.raises(NotFound, match="has no version 'v2'"):
        read_quarantine(store, "set", "v2")
    with pytest.raises(BadRequest, match="which no page gave"):
        read_quarantine(store, "set", "v1", "../1")
    with pytest.raises(BadRequest, match="limit is 0"):
        read_quarantine(store, "set", "v1", None, 0)
    for item, sample in (("..", "request.json"), ("item-00000", "0000.png"), ("item-00000", "../../x.png")):
        with pytest.raises(NotFound, match="no quarantined file"):
            quarantined_file(store, "set", "v1", item, sample)
    with pytest.raises(NotFound, match="has no report"):
        report_page(store, "set", "v1")


def test_a_list_is_json_lines_without_nulls(store):
    filled(0, [("line 2", b"\xff\xfe")], store)
    (line,) = store.read(KEYS.quarantine(0)).splitlines()
    assert json.loads(line) == {
        "bytes": 2, "code": "bad_image", "file": "a.zip", "fix": "Replace it.", "place": "line 2",
        "reason": "'line 2' doesn't decode.", "row": "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}",
    }  # fmt: skip
