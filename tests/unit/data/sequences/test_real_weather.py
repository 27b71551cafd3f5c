"""A real time series (the weather at three airports, hour by hour) from upload to shards, and as predict sees it."""

import csv
import io
import random

import numpy as np
import pytest

from shoal_core.data.config_types import SPLITS
from tests.support import real_data
from tests.unit.data.builders import Case

WEATHER = real_data.WEATHER
CONFIG = {
    "sequence": {"time": "time_hour", "id": "origin", "window": 24, "horizon": 3},
    "target": "temp",
    "task": "regression",
}
INPUTS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")


def read_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(WEATHER.read_text())))


def number(text: str) -> float:
    return float(text) if text else np.nan


def windows_of(rows: list[dict[str, str]]) -> dict[tuple[str, str], tuple[list[dict[str, str]], float]]:
    """(airport, hour of the target) -> the 24 rows before, three hours earlier, and the temperature."""
    found = {}
    for origin in sorted({row["origin"] for row in rows}):
        own = sorted((row for row in rows if row["origin"] == origin), key=lambda row: row["time_hour"])
        for start in range(len(own) - 26):
            found[origin, own[start + 26]["time_hour"]] = (own[start : start + 24], number(own[start + 26]["temp"]))
    return found


@pytest.fixture(scope="module")
def case() -> Case:
    rows = read_rows()
    # As a log that several stations write to: in no order.
    random.Random(4).shuffle(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return Case({"weather.csv": text.getvalue().encode()}, **CONFIG)


def test_shards_hold_every_hour_of_every_airport_but_those_at_the_boundaries(case):
    manifest = case.run()
    assert manifest.spec.sequence.number_names == INPUTS
    expected = windows_of(read_rows())
    samples = {
        (np.array([[number(row[name]) for name in INPUTS] for row in rows], np.float32).tobytes(), np.float32(target))
        for rows, target in expected.values()
    }
    found = []
    for split in SPLITS:
        tensors = case.tensors(manifest, split)
        found += list(zip(map(bytes, tensors["sequence"]), tensors["target"], strict=True))
    assert len(found) == len(set(found)) and set(found) <= samples
    dropped = case.report.drops.counts
    assert set(dropped) == {"crosses_splits"}
    # Two boundaries, three airports, 26 hours between a window's first row and its target.
    assert len(found) == len(samples) - dropped["crosses_splits"] and dropped["crosses_splits"] == 2 * 3 * 26
    assert min(manifest.samples.values()) > 50


def test_predict_sees_what_the_shards_hold(case):
    spec = case.run().spec
    instances = [{"rows": rows} for rows, _ in list(windows_of(read_rows()).values())[:40]]
    longer = [{"rows": [{"temp": 0}, *instance["rows"]]} for instance in instances]
    as_json = [
        {
            "rows": [
                {name: number(text) if name in INPUTS else text for name, text in row.items()} for row in each["rows"]
            ]
        }
        for each in instances
    ]
    encoded = spec.encode_windows(instances)["sequence"]
    assert encoded.shape == (40, 24, 8) and encoded.dtype == np.float32
    for other in (longer, as_json):
        assert spec.encode_windows(other)["sequence"].tobytes() == encoded.tobytes()
    manifest = case.run()
    shards = {bytes(window) for split in SPLITS for window in case.tensors(manifest, split)["sequence"]}
    assert sum(bytes(window) in shards for window in encoded) >= 30


def test_validation_is_newer_than_training_and_testing_newer_still(case):
    manifest = case.run()
    hours = {}
    for (_, hour), (rows, target) in windows_of(read_rows()).items():
        window = np.array([[number(row[name]) for name in INPUTS] for row in rows], np.float32).tobytes()
        hours[window, np.float32(target)] = (rows[0]["time_hour"], hour)
    spans = {}
    for split in SPLITS:
        tensors = case.tensors(manifest, split)
        times = [hours[key] for key in zip(map(bytes, tensors["sequence"]), tensors["target"], strict=True)]
        spans[split] = (min(first for first, _ in times), max(last for _, last in times))
    assert spans["train"][1] < spans["validation"][0] and spans["validation"][1] < spans["test"][0]
