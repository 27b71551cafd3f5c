"""Every kind of data from upload to prediction, with real data, real HTTP and shards held beside a plain reading."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.e2e.cloud import LocalCloud
from tests.e2e.shards import Committed, committed
from tests.support import real_data

SHORT = "rounds: 2\nworkers: 2\ntraining: {epochs: 2}\n"


class Uploaded:
    """What a test sees of its data set, once its run has succeeded."""

    def __init__(self, cloud: LocalCloud, name: str) -> None:
        self.cloud, self.name = cloud, name
        self.run = cloud.succeeded(name)
        self.shards: Committed = committed(cloud, name, self.run["version"])
        self.report = cloud.get(f"/datasets/{name}/versions/{self.run['version']}/report")

    def kept(self) -> int:
        return sum(entry["kept"] for entry in self.report["files"])

    def predict(self, body: object) -> list[Any]:
        answer = self.cloud.http("POST", f"/models/{self.name}/predict", json.dumps(body).encode(), "application/json")
        assert answer.status == 200, answer
        return list(answer.body["predictions"])

    def nothing_lies_on_two_sides(self) -> None:
        sides = self.shards.side_keys()
        assert len(sides) == 3
        assert sum(map(len, sides)) == len(set().union(*sides))


@pytest.fixture(scope="module")
def uploads(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Uploaded]:
    """All uploads at once, so that their runs share the waiting; a test asks for its own by name."""
    folder = tmp_path_factory.mktemp("real")

    def settings(name: str, text: str) -> None:
        cloud.put(f"datasets/{name}/dataset.yaml", (SHORT + text).encode())

    def file(name: str, as_name: str, data: bytes, text: str = "") -> None:
        settings(name, text)
        cloud.put(f"datasets/{name}/{as_name}", data)

    file("texts", "operations.jsonl", real_data.texts_as_lines(), "target: service\n")
    file("text-folders", "operations.zip", real_data.texts_in_folders())
    path = folder / "flights.csv.gz"
    path.write_bytes(real_data.flights_gzip())
    (folder / "flights.yaml").write_text(SHORT + "target: arr_delay\n")
    cloud.shoal("push", str(path), "--name", "flights", "--config", str(folder / "flights.yaml"), "--no-watch")
    for key, data in real_data.flights_lake(folder / "lake").items():
        cloud.put(f"datasets/lake/{key}", data)
    settings("lake", "target: arr_delay\n")  # last: it commits the files beside it
    file("penguins-json", "penguins.json", real_data.penguins_array(), "target: species\n")
    sequence = f"sequence: {{time: time_hour, id: origin, window: {real_data.WINDOW}, horizon: {real_data.HORIZON}}}\n"
    file("weather", "weather.csv", real_data.WEATHER.read_bytes(), f"target: temp\n{sequence}")
    file("digit-labels", "digits.zip", real_data.images_with_labels(), "task: multilabel\ntarget: labels\n")
    file("digit-ink", "digits.zip", real_data.images_with_numbers(), "task: regression\ntarget: ink\n")
    return lambda name: Uploaded(cloud, name)


def shown_tokens(shards: Committed) -> tuple[dict[str, Any], Iterable[tuple[str, ...]]]:
    """The column of texts, and each sample's tokens with `?` for an unknown one."""
    (column,) = shards.spec["table"]["texts"]
    vocabulary = ["", "?", *column["vocabulary"]]
    ids = shards.all("tokens")
    return column, [tuple(vocabulary[number] for number in row if number) for row in ids.tolist()]


@pytest.mark.parametrize(
    ("name", "services"), [("texts", tuple(real_data.SERVICES)), ("text-folders", real_data.FOLDER_SERVICES)]
)
def test_texts(name: str, services: tuple[str, ...], uploads: Callable[[str], Uploaded]) -> None:
    data = uploads(name)
    column, tokens = shown_tokens(data.shards)
    known = set(column["vocabulary"])
    expected = [
        (tuple(token if token in known else "?" for token in words[: column["length"]]), service)
        for words, service in real_data.expected_texts(services)
    ]
    assert sorted(zip(tokens, data.shards.classes(), strict=True)) == sorted(expected)
    assert len(known) > 500
    data.nothing_lies_on_two_sides()
    assert data.kept() == data.shards.samples
    (answer,) = data.predict([{"text": "Creates a new IAM user for your account."}])
    assert answer["label"] in services


def table_rows(shards: Committed) -> list[tuple[Any, ...]]:
    """Every sample as (numbers, categories as texts)."""
    spec = shards.spec["table"]
    words = [[None, *column["categories"]] for column in spec["categories"]]
    codes = shards.all("categories").tolist() if words else [[]] * shards.samples
    return [
        (real_data.rounded(numbers), tuple(names[code] for names, code in zip(words, row, strict=True)))
        for numbers, row in zip(shards.all("numbers").tolist(), codes, strict=True)
    ]


def expected_rows(shards: Committed, rows: Iterable[real_data.Row]) -> list[tuple[Any, ...]]:
    spec = shards.spec["table"]
    known = [(column["name"], set(column["categories"])) for column in spec["categories"]]
    return [
        (
            real_data.rounded(real_data.numbers_of(row, spec)),
            tuple(row[name] if row[name] in values else None for name, values in known),
        )
        for row in rows
    ]


def dropped(report: dict[str, Any]) -> dict[str, int]:
    """Samples left out of all files, by code."""
    return dict(sum((Counter(entry["dropped"]) for entry in report["files"]), Counter()))


def natural(item: tuple[Any, ...]) -> str:
    return repr(item)


@pytest.mark.parametrize("name", ["flights", "lake"])
def test_flights_with_times_codes_and_gaps(name: str, uploads: Callable[[str], Uploaded]) -> None:
    data = uploads(name)
    spec = data.shards.spec["table"]
    assert [column["name"] for column in spec["dates"]] == ["time_hour"]
    assert {"carrier", "origin", "dest"} <= {column["name"] for column in spec["categories"]}
    assert {"dep_delay", "air_time", "distance"} <= {column["name"] for column in spec["numbers"]}
    assert "year" in spec["ignored"]  # it is 2013 everywhere
    flights = [row for row in real_data.rows(real_data.FLIGHTS) if row["arr_delay"]]
    found = zip(table_rows(data.shards), data.shards.all("target").tolist(), strict=True)
    expected = zip(expected_rows(data.shards, flights), [float(row["arr_delay"]) for row in flights], strict=True)
    assert sorted(found, key=natural) == sorted(expected, key=natural)
    data.nothing_lies_on_two_sides()
    assert data.kept() == len(flights)
    assert dropped(data.report) == {"missing_target": 1497 - len(flights)}
    row = {name: value for name, value in flights[0].items() if name != "arr_delay"}
    (answer,) = data.predict([row])
    assert math.isfinite(answer["value"])


def test_penguins_as_one_json_array(uploads: Callable[[str], Uploaded]) -> None:
    data = uploads("penguins-json")
    rows = real_data.rows(real_data.PENGUINS)
    found = zip(table_rows(data.shards), data.shards.classes(), strict=True)
    expected = zip(expected_rows(data.shards, rows), [row["species"] for row in rows], strict=True)
    assert sorted(found, key=natural) == sorted(expected, key=natural)
    (answer,) = data.predict([{name: value for name, value in rows[0].items() if name != "species" and value}])
    assert answer["label"] in {"Adelie", "Chinstrap", "Gentoo"}


def windows_of(tensors: dict[str, Any]) -> set[real_data.Window]:
    flat = tensors["sequence"].reshape(len(tensors["sequence"]), -1).tolist()
    return {
        (real_data.rounded(window), real_data.rounded([target])[0])
        for window, target in zip(flat, tensors["target"].tolist(), strict=True)
    }


def test_weather_as_time_series(uploads: Callable[[str], Uploaded]) -> None:
    data = uploads("weather")
    spec = data.shards.spec["sequence"]
    expected = real_data.expected_windows(spec, "temp")
    found = {split: windows_of(tensors) for split, tensors in data.shards.splits.items()}
    assert set().union(*found.values()) <= set(expected)
    # By time: each split holds all windows whose rows, the predicted one with them, lie between its first and the next.
    first = {split: min(expected[window][0] for window in windows) for split, windows in found.items()}
    ends = {"train": first["validation"], "validation": first["test"], "test": "9999"}
    for split, windows in found.items():
        inside = {key for key, (start, goal) in expected.items() if first[split] <= start and goal < ends[split]}
        assert windows == inside
    left_out = len(expected) - data.shards.samples
    assert dropped(data.report) == {"crosses_splits": left_out}
    assert left_out == 3 * 2 * (real_data.WINDOW + real_data.HORIZON - 1)  # airports, borders, hours that lie across
    hours = [row for row in real_data.rows(real_data.WEATHER) if row["origin"] == "JFK"][: real_data.WINDOW]
    (answer,) = data.predict([{"rows": hours}])
    assert math.isfinite(answer["value"])


def test_images_with_several_labels(uploads: Callable[[str], Uploaded]) -> None:
    data = uploads("digit-labels")
    classes = data.shards.spec["target"]["classes"]
    assert sorted(classes) == ["even", "high", "loop", "odd"]
    found = [
        (image.tobytes(), sorted(label for label, flag in zip(classes, flags, strict=True) if flag))
        for image, flags in zip(data.shards.all("image"), data.shards.all("target").tolist(), strict=True)
    ]
    expected = {
        (real_data.pixels(image), tuple(real_data.properties(name))) for name, image in real_data.digits().items()
    }
    assert sorted(found) == sorted((image, list(labels)) for image, labels in expected)
    data.nothing_lies_on_two_sides()


def test_images_with_a_number(uploads: Callable[[str], Uploaded]) -> None:
    data = uploads("digit-ink")
    expected = {real_data.pixels(image): real_data.ink(image) for image in real_data.digits().values()}
    images = [image.tobytes() for image in data.shards.all("image")]
    assert sorted(images) == sorted(expected)
    assert data.shards.all("target").tolist() == pytest.approx([expected[image] for image in images], rel=1e-6)
    image = next(iter(real_data.digits().values()))
    answer = data.cloud.http("POST", f"/models/{data.name}/predict", image, "image/png")
    assert answer.status == 200, answer
    assert math.isfinite(answer.body["predictions"][0]["value"])
