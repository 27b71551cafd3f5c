"""Real data in every form that an upload may have, and what a plain reading of it says the shards must hold.

Nothing here uses the core: files are read with csv, zipfile and Pillow, and texts are cut by a regular expression.
Texts are the documentation of AWS's operations, which botocore carries; the class is the service.
"""

from __future__ import annotations

import csv
import gzip
import html
import io
import json
import math
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from botocore.loaders import Loader
from PIL import Image

from tests.support.aws import ROOT

Row = dict[str, str]
EXAMPLES = ROOT / "examples"
FLIGHTS = EXAMPLES / "flights" / "flights.csv"
WEATHER = EXAMPLES / "flights" / "weather.csv"
PENGUINS = EXAMPLES / "penguins" / "penguins.csv"
DIGITS = EXAMPLES / "digits" / "digits.zip"
SERVICES = {"ec2": 420, "sagemaker": 400, "glue": 310, "iam": 180, "rds": 160, "dynamodb": 60}
FOLDER_SERVICES = ("glue", "iam", "rds")
WINDOW, HORIZON = 24, 3
# Properties of handwritten digits, several at once.
LOOPS, EVEN, HIGH = "0689", "02468", "56789"


def rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


# Texts.


@cache
def operations() -> dict[str, list[str]]:
    """Service -> its operations' documentation, without tags: real texts in an order that doesn't change."""
    loader = Loader()
    found: dict[str, list[str]] = {}
    for service, most in SERVICES.items():
        model = loader.load_service_model(service, "service-2")["operations"]
        texts = [re.sub(r"<[^>]*>", " ", model[name].get("documentation", "")) for name in sorted(model)[:most]]
        found[service] = [re.sub(r"\s+", " ", html.unescape(text)).strip() for text in texts]
    return found


def texts_as_lines() -> bytes:
    """JSONL, the services mixed."""
    lines = [{"text": text, "service": service} for service, texts in operations().items() for text in texts]
    lines.sort(key=lambda line: (line["text"][::-1], line["service"]))
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def texts_in_folders() -> bytes:
    """A zip of one `.txt` per operation, in folders by service."""
    return zipped(
        {
            f"texts/{service}/{number:04d}.txt": text.encode()
            for service in FOLDER_SERVICES
            for number, text in enumerate(operations()[service])
        }
    )


def expected_texts(services: Iterable[str]) -> set[tuple[tuple[str, ...], str]]:
    """(tokens, class) of every different text: words, and each sign alone, in lower case."""
    return {
        (tuple(re.findall(r"[^\W_]+|[^\w\s]|_", unicodedata.normalize("NFKC", text).casefold())), service)
        for service in services
        for text in operations()[service]
        if text
    }


# Tables.


def flights_gzip() -> bytes:
    return gzip.compress(FLIGHTS.read_bytes(), mtime=0)


def flights_lake(folder: Path) -> dict[str, bytes]:
    """Parquet files of a partitioned prefix: `year=2013/month=1/…`, those columns only in the path."""
    table = duckdb.read_csv(str(FLIGHTS))
    table.write_parquet(str(folder), partition_by=["year", "month"])
    found = sorted(folder.rglob("*.parquet"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def penguins_array() -> bytes:
    """One JSON array, numbers as numbers, gaps as null."""

    def value(text: str) -> object:
        try:
            return float(text)
        except ValueError:
            return text or None

    return json.dumps([{name: value(text) for name, text in row.items()} for row in rows(PENGUINS)]).encode()


def numbers_of(row: Row, spec: Mapping[str, Any]) -> list[float]:
    """What a row's numbers must be: its number columns, then days since 1970 and waves of its times."""
    found = [_number(row[column["name"]]) for column in spec["numbers"]]
    for column in spec["dates"]:
        found += _time_numbers(row[column["name"]], column["features"])
    return found


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _time_numbers(text: str, features: Sequence[str]) -> list[float]:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    turns = {
        "hour": seconds / 86400,
        "weekday": moment.weekday() / 7,
        "day": (moment.day - 1) / 31,
        "month": (moment.month - 1) / 12,
    }
    found = [moment.timestamp() / 86400] if "elapsed" in features else []
    for feature in features:
        if feature != "elapsed":
            found += [math.sin(2 * math.pi * turns[feature]), math.cos(2 * math.pi * turns[feature])]
    return found


def rounded(numbers: Iterable[float]) -> tuple[float | None, ...]:
    """Numbers as float32 holds them, comparable: None for missing, six digits."""
    return tuple(None if math.isnan(number) else float(f"{np.float32(number):.6g}") + 0.0 for number in numbers)


# Time series.


Window = tuple[tuple[float | None, ...], float | None]


def expected_windows(spec: Mapping[str, Any], target: str) -> dict[Window, tuple[str, str]]:
    """(numbers of a window, row after row; the target `HORIZON` rows later) -> the first and the last time in it."""
    series: dict[str, list[Row]] = {}
    for row in rows(WEATHER):
        series.setdefault(row["origin"], []).append(row)
    found = {}
    for hours in series.values():
        hours.sort(key=lambda row: row["time_hour"])
        for first in range(0, len(hours) - WINDOW - HORIZON + 1, spec["stride"]):
            window = hours[first : first + WINDOW]
            goal = hours[first + WINDOW - 1 + HORIZON]
            numbers = [_number(row[column["name"]]) for row in window for column in spec["numbers"]]
            key = (rounded(numbers), rounded([float(goal[target])])[0])
            found[key] = (window[0]["time_hour"], goal["time_hour"])
    return found


# Images.


@cache
def digits() -> dict[str, bytes]:
    """Every third digit: name -> PNG; the name begins with its class."""
    with zipfile.ZipFile(DIGITS) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))[::3]
        return {f"{name.split('/')[-2]}-{name.split('/')[-1]}": archive.read(name) for name in names}


def pixels(data: bytes) -> bytes:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L")).tobytes()


def properties(name: str) -> list[str]:
    """What is true of a digit."""
    found = {"loop": LOOPS, "even": EVEN, "high": HIGH}
    labels = [label for label, members in found.items() if name[0] in members]
    return sorted(labels if "even" in labels else [*labels, "odd"])


def ink(data: bytes) -> float:
    """The share of the image that is ink, in per cent."""
    return round(sum(pixels(data)) / len(pixels(data)) / 2.55, 3)


def images_with_labels() -> bytes:
    """A zip of images and `labels.csv`: several labels for each."""
    table = "file,labels\n" + "".join(f"images/{name},{'|'.join(properties(name))}\n" for name in digits())
    return zipped({"labels.csv": table.encode(), **{f"images/{name}": data for name, data in digits().items()}})


def images_with_numbers() -> bytes:
    """A zip of images and `index.csv`: a number for each."""
    table = "file,ink\n" + "".join(f"{name},{ink(data)}\n" for name, data in digits().items())
    return zipped({"index.csv": table.encode(), **digits()})
