"""A stream through the whole embedded cloud: records put as fast as they are taken, and at a steady pace.

From PutRecords by clients of their own to the answers that another client reads from the stream of predictions, with a
linear model of a table; nothing is mocked or short-cut. Kinesis on AWS limits a shard to 1,000 records a second, which
the embedded cloud doesn't, so its records/s say what the path through the function takes, not what a shard takes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.pipeline import ROOT
from benchmarks.results import Row, median_row, percentile
from tests.e2e.cloud import LocalCloud, local_cloud

MODEL = "penguins"
PENGUINS = ROOT / "examples" / "penguins" / "penguins.csv"
SETTINGS = b"target: species\nrecipe: linear\nrounds: 1\nworkers: 1\n"
ROW = {"island": "Biscoe", "bill_length_mm": 46.1, "flipper_length_mm": 211, "body_mass_g": 4500}
RECORDS, QUICK_RECORDS = 100_000, 10_000
KEYS, SENDERS, AT_ONCE = 1_000, 2, 500
PACE, PACED_SECONDS, QUICK_PACED_SECONDS = 1_000, 20.0, 3.0
"""Records a second of the steady load, and how long it lasts."""
TICK = 0.05
DEADLINE = 300.0


class Reader:
    """Reads the stream of predictions on a thread of its own; notes when each answer was seen."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._kinesis = cloud.client("kinesis")
        self._stream = f"{cloud.status['stack']}-predictions"
        self._stopped = threading.Event()
        self.seen: dict[str, float] = {}
        self._iterators = [
            self._kinesis.get_shard_iterator(
                StreamName=self._stream, ShardId=shard["ShardId"], ShardIteratorType="LATEST"
            )["ShardIterator"]
            for shard in self._kinesis.list_shards(StreamName=self._stream)["Shards"]
        ]
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stopped.is_set():
            for place, iterator in enumerate(self._iterators):
                page = self._kinesis.get_records(ShardIterator=iterator)
                self._iterators[place] = page["NextShardIterator"]
                now = time.monotonic()
                for record in page["Records"]:
                    for line in record["Data"].splitlines():
                        self.seen.setdefault(json.loads(line)["id"], now)
            time.sleep(0.01)

    def wait(self, count: int) -> None:
        """Wait until so many answers were seen. Raises `RuntimeError` when they don't come."""
        deadline = time.monotonic() + DEADLINE
        while len(self.seen) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self.seen):,} of {count:,} answers came within {DEADLINE:.0f} s.")
            time.sleep(0.01)


def measure(scratch: Path, repeats: int) -> list[Row]:
    """Records a second, and the time from end to end at a steady load.

    Args:
        scratch: An empty folder.
        repeats: How often the records are sent; with one, fewer are.
    """
    quick = repeats == 1
    total, seconds = (QUICK_RECORDS, QUICK_PACED_SECONDS) if quick else (RECORDS, PACED_SECONDS)
    with local_cloud(scratch / "cloud") as cloud:
        cloud.put(f"datasets/{MODEL}/dataset.yaml", SETTINGS)
        cloud.put(f"datasets/{MODEL}/penguins.csv", PENGUINS.read_bytes())
        cloud.succeeded(MODEL)
        flood(cloud, "warm-up", 2_000)
        rates = [total / flood(cloud, f"flood-{turn}", total) for turn in range(repeats)]
        took = steady(cloud, "steady", seconds)
    return [
        median_row(f"stream, {total:,} records: put to answers read", "records/s", rates),
        Row(f"stream at {PACE:,} records/s: put to answer read, p50", "ms", percentile(took, 0.5) * 1000),
        Row(f"stream at {PACE:,} records/s: put to answer read, p99", "ms", percentile(took, 0.99) * 1000),
    ]


def flood(cloud: LocalCloud, name: str, total: int) -> float:
    """Seconds from the first put to the last answer read."""
    with Reader(cloud) as reader, ThreadPoolExecutor(SENDERS) as pool:
        began = time.monotonic()
        list(pool.map(lambda sender: _send(cloud, name, range(sender, total, SENDERS)), range(SENDERS)))
        reader.wait(total)
        return max(reader.seen.values()) - began


def _send(cloud: LocalCloud, name: str, numbers: range) -> None:
    kinesis = cloud.client("kinesis")
    for entries in _entries(name, numbers):
        assert not kinesis.put_records(StreamName="shoal-requests", Records=entries)["FailedRecordCount"]


def _entries(name: str, numbers: range) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(numbers), AT_ONCE):
        yield [_entry(name, number) for number in numbers[start : start + AT_ONCE]]


def _entry(name: str, number: int) -> dict[str, Any]:
    row = {**ROW, "body_mass_g": 3000 + number % 3000}
    question = {"model": MODEL, "id": f"{name}-{number}", "row": row}
    return {"Data": json.dumps(question).encode(), "PartitionKey": f"key-{number % KEYS}"}


def steady(cloud: LocalCloud, name: str, seconds: float) -> list[float]:
    """Seconds from just before the put of each record to its answer being read, at a steady load."""
    kinesis, put_at = cloud.client("kinesis"), dict[str, float]()
    each = int(PACE * TICK)
    with Reader(cloud) as reader:
        began = time.monotonic()
        for tick in range(int(seconds / TICK)):
            time.sleep(max(0.0, began + tick * TICK - time.monotonic()))
            numbers = range(tick * each, (tick + 1) * each)
            put_at |= dict.fromkeys((f"{name}-{number}" for number in numbers), time.monotonic())
            kinesis.put_records(StreamName="shoal-requests", Records=[_entry(name, number) for number in numbers])
        reader.wait(len(put_at))
        return [reader.seen[record] - moment for record, moment in put_at.items()]
