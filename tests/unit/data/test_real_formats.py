"""Real data in every format that may be uploaded: the shards hold what a plain reading of the data says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pytest
import zstandard
from PIL import Image

from shoal_core.data.assigning import assign_samples
from shoal_core.data.committing import commit_dataset
from shoal_core.data.config import DatasetRequest, SourceFile, parse_config
from shoal_core.data.config_types import SPLITS
from shoal_core.data.manifest import Manifest
from shoal_core.data.packing import pack_shard
from shoal_core.data.planning import plan_dataset
from shoal_core.data.shards import Tensors, decode_shard
from shoal_core.data.writing import write_shard
from shoal_core.keys import DatasetKeys
from tests.support import real_data
from tests.support.stores import MemoryStore

NAME, VERSION = "real", "0123456789ab"
TARGET = "arr_delay"
NUMBERS = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "distance", "hour", "minute", "month", "day"}


def shards_of(files: Mapping[str, bytes], settings: str) -> tuple[Manifest, list[Tensors]]:
    """All stages over the files; the manifest and every shard."""
    uploads, artifacts = MemoryStore(), MemoryStore()
    for name, data in files.items():
        uploads.write(f"datasets/{NAME}/{name}", data)
    request = DatasetRequest(
        dataset=NAME,
        version=VERSION,
        files=tuple(SourceFile(key=f"datasets/{NAME}/{name}", size=len(data)) for name, data in files.items()),
        config=parse_config(settings.encode()),
    )
    artifacts.write(DatasetKeys(NAME, VERSION).request, request.model_dump_json().encode())
    plan = plan_dataset(uploads, artifacts, NAME, VERSION)
    for item in range(len(plan.items)):
        write_shard(uploads, artifacts, NAME, VERSION, item)
    for shard in range(len(assign_samples(artifacts, NAME, VERSION).shards)):
        pack_shard(artifacts, NAME, VERSION, shard)
    manifest = commit_dataset(artifacts, NAME, VERSION)
    return manifest, [decode_shard(artifacts.read(file.key)) for split in SPLITS for file in manifest.shards(split)]


# Tables.

FLIGHTS = real_data.rows(real_data.FLIGHTS)
Typed = dict[str, object]


def delimited(delimiter: str, quoting: int = csv.QUOTE_MINIMAL, encoding: str = "utf-8", end: str = "\n") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(FLIGHTS[0]), delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writeheader()
    writer.writerows(FLIGHTS)
    return text.getvalue().encode(encoding)


def typed() -> list[Typed]:
    """JSON's view: numbers as numbers, gaps as null."""
    return [
        {name: (float(text) if name in NUMBERS and text else text or None) for name, text in row.items()}
        for row in FLIGHTS
    ]


def sparse_lines() -> bytes:
    """JSONL in which a gap is an absent key."""
    rows = ({name: value for name, value in row.items() if value is not None} for row in typed())
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(rows_per_group: int) -> Callable[[], bytes]:
    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "flights.parquet"
            with duckdb.connect() as connection:
                table = connection.read_csv(str(real_data.FLIGHTS))
                table.write_parquet(str(path), row_group_size=rows_per_group, compression="zstd")
            return path.read_bytes()

    return make


TABLES: dict[str, Callable[[], bytes]] = {
    "plain.csv": lambda: real_data.FLIGHTS.read_bytes(),
    "quoted.csv": lambda: delimited(";", csv.QUOTE_ALL),
    "bar.csv": lambda: delimited("|"),
    "windows.csv": lambda: delimited(",", encoding="utf-8-sig", end="\r\n"),
    "tabs.tsv": lambda: delimited("\t"),
    "packed.csv.gz": real_data.flights_gzip,
    "packed.tsv.zst": lambda: zstandard.ZstdCompressor().compress(delimited("\t")),
    "array.json": lambda: json.dumps(typed(), indent=1).encode(),
    "lines.jsonl": sparse_lines,
    "packed.jsonl.gz": lambda: gzip.compress(sparse_lines(), mtime=0),
    "one-group.parquet": parquet(122_880),
    "groups.parquet": parquet(2048),
}


@pytest.mark.parametrize("name", list(TABLES))
def test_a_table(name: str) -> None:
    manifest, shards = shards_of({name: TABLES[name]()}, f"target: {TARGET}\n")
    table = manifest.spec.table
    assert table is not None
    assert [column.name for column in table.dates] == ["time_hour"]
    words = [(None, *column.categories) for column in table.categories]
    assert "carrier" in table.names
    found = [
        (real_data.rounded(numbers), *(names[code] for names, code in zip(words, codes, strict=True)), target)
        for shard in shards
        for numbers, codes, target in zip(
            shard["numbers"].tolist(), shard["categories"].tolist(), shard["target"].tolist(), strict=True
        )
    ]
    spec = table.model_dump()
    known = [(column.name, set(column.categories)) for column in table.categories]
    expected = [
        (
            real_data.rounded(real_data.numbers_of(row, spec)),
            *(row[name] if row[name] in values else None for name, values in known),
            float(row[TARGET]),
        )
        for row in FLIGHTS
        if row[TARGET]
    ]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


# Images.


def as_format(kind: str) -> dict[str, bytes]:
    """The digits in another format that loses nothing, in folders by class."""
    found = {}
    for name, data in real_data.digits().items():
        buffer = io.BytesIO()
        options = {"lossless": True} if kind == "webp" else {}
        Image.open(io.BytesIO(data)).save(buffer, {"tif": "tiff"}.get(kind, kind).upper(), **options)
        found[f"{name[0]}/{name.removesuffix('.png')}.{kind}"] = buffer.getvalue()
    return found


def tarred(files: Mapping[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(f"photos/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


UPLOADS: dict[str, Callable[[], dict[str, bytes]]] = {
    "png in zip": lambda: {"digits.zip": real_data.zipped(as_format("png"))},
    "png in tar": lambda: {"digits.tar": tarred(as_format("png"), "w")},
    "png in tar.gz": lambda: {"digits.tar.gz": tarred(as_format("png"), "w:gz")},
    "png, loose": lambda: as_format("png"),
    "bmp in zip": lambda: {"digits.zip": real_data.zipped(as_format("bmp"))},
    "gif in zip": lambda: {"digits.zip": real_data.zipped(as_format("gif"))},
    "tif in zip": lambda: {"digits.zip": real_data.zipped(as_format("tif"))},
    "webp in zip": lambda: {"digits.zip": real_data.zipped(as_format("webp"))},
}


@pytest.mark.parametrize("name", list(UPLOADS))
def test_images(name: str) -> None:
    manifest, shards = shards_of(UPLOADS[name](), "")
    classes = manifest.spec.target.classes
    found = [
        (image.tobytes(), classes[target])
        for shard in shards
        for image, target in zip(shard["image"], shard["target"].tolist(), strict=True)
    ]
    expected = {(real_data.pixels(data), image[0]) for image, data in real_data.digits().items()}
    assert sorted(found) == sorted(expected)


# Texts.


def texts_as_table() -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["service", "text"])
    writer.writerows([service, words] for service, texts in real_data.operations().items() for words in texts)
    return text.getvalue().encode()


TEXTS: dict[str, tuple[Callable[[], dict[str, bytes]], tuple[str, ...]]] = {
    "lines": (lambda: {"operations.jsonl": real_data.texts_as_lines()}, tuple(real_data.SERVICES)),
    "table": (lambda: {"operations.csv": texts_as_table()}, tuple(real_data.SERVICES)),
    "folders": (lambda: {"operations.zip": real_data.texts_in_folders()}, real_data.FOLDER_SERVICES),
}


@pytest.mark.parametrize("name", list(TEXTS))
def test_texts(name: str) -> None:
    files, services = TEXTS[name]
    manifest, shards = shards_of(files(), "" if name == "folders" else "target: service\n")
    table = manifest.spec.table
    assert table is not None
    (column,) = table.texts
    vocabulary = ("", "?", *column.vocabulary)
    classes = manifest.spec.target.classes
    found = [
        (tuple(vocabulary[number] for number in row if number), classes[target])
        for shard in shards
        for row, target in zip(shard["tokens"].tolist(), shard["target"].tolist(), strict=True)
    ]
    known = set(column.vocabulary)
    expected = [
        (tuple(token if token in known else "?" for token in words[: column.length]), service)
        for words, service in real_data.expected_texts(services)
    ]
    assert sorted(found) == sorted(expected)
