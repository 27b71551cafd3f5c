"""Uploads with something wrong in them: which ones make a run fail, with what failure, and which ones go on."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.e2e.bad_files import (
    HEADER,
    MB,
    NO_IMAGE,
    csv_of,
    damaged_member,
    declared_bomb,
    huge_pixels,
    images,
    latin_1_tar_of,
    lying_bomb,
    png,
    rows,
    tar_bomb,
    tar_gz_of,
    tar_of,
    zip_of,
)

QUICK = b"rounds: 1\nworkers: 1\ntraining: {epochs: 1}\n"
LONG = "datasets/long-key/" + "k" * (1000 - len("datasets/long-key/.csv")) + ".csv"
LONG_UNICODE = "datasets/long-unicode-key/" + "é" * 400 + ".csv"
LONG_LOOSE = "datasets/long-loose-keys/"
ODD = "datasets/odd-names/my data + 100% «ü» 数据 #1?&=.zip"


# A bomb is built only when it is uploaded, not when tests are collected.
Content = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class Fails:
    """One upload whose run must fail: at `stage`, with `error`, a reason and a fix that hold these texts."""

    key: str
    data: Content
    stage: str
    error: str
    reason: tuple[str, ...]
    fix: tuple[str, ...]
    config: bytes | None = None


@dataclass(frozen=True)
class GoesOn:
    """Uploads whose run must succeed; `dropped` is the report's count by reason, `told` are texts of its examples."""

    files: dict[str, Content]
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    config: bytes = QUICK


# What goes through the whole cloud. The other uploads that go on, and the others that are refused when they are
# planned, differ in their bytes only, and go through the handlers in the test's own process
# (tests/unit/handlers/test_bad_uploads.py).
THROUGH_THE_CLOUD = frozenset(
    {"good", "unsafe-zip", "some-undecodable", "ragged", "odd-names", "long-unicode-key", "long-loose-keys"}
)
PLANNED_IN_THE_CLOUD = frozenset({"corrupt", "tar-bomb", "undecodable", "one-class", "binary-csv", "two-classes"})
PLAN = "Plan Shards"


def require_told(case: GoesOn, report: dict[str, Any]) -> None:
    """Assert that a report tells what was left out of an upload, and why."""
    assert (report["kept"], report["drops"]["counts"]) == (case.kept, case.dropped)
    examples = report["drops"]["examples"]
    assert len(examples) == sum(case.dropped.values())
    assert all(example["fix"] and example["place"] for example in examples)
    for text in case.told:
        assert any(text in example["reason"] for example in examples), examples
    for text in case.warnings:
        assert any(text in warning for warning in report["warnings"]), report["warnings"]
    dropped = {column["name"]: column["reason"] for column in report["columns"] if column["role"] == "dropped"}
    assert dropped == case.columns


def failing() -> dict[str, Fails]:
    good = images(4)
    plan, ingest, commit = PLAN, "Ingest Upload", "Commit Dataset"
    damaged = ("is a damaged", "zip archive")
    cut_tar = ("damaged or cut-off tar archive",)
    again = ("Make the archive again",)
    whole = tar_gz_of(good)
    unsafe = {"../a/1.png": png(1), "/b/2.png": png(2)}
    return {
        "no-bytes": Fails("a.zip", b"", ingest, "BadDataset", ("no-bytes/a.zip", "is empty"), ("file with content",)),
        "no-bytes-csv": Fails("a.csv", b"", ingest, "BadDataset", ("a.csv", "is empty"), ("file with content",)),
        "no-members": Fails("a.zip", zip_of({}), plan, "BadArchive", ("'a.zip' holds no files",), ("one folder per",)),
        "no-members-tar": Fails("a.tar", tar_of({}), plan, "BadArchive", ("'a.tar' holds no files",), ("folder per",)),
        "no-members-tgz": Fails("a.tgz", tar_gz_of({}), plan, "BadArchive", ("'a.tgz' holds no files",), ("folder",)),
        "no-images": Fails(
            "a.zip", zip_of({"a/notes.bin": b"1"}), plan, "BadDataset", ("'a.zip' holds no images",), ("PNG",)
        ),
        "not-an-archive": Fails("a.zip", bytes(range(256)) * 8, plan, "BadArchive", ("'a.zip' isn't a zip",), again),
        "corrupt": Fails("a.zip", b"PK\x03\x04" + b"corrupt" * 99, plan, "BadArchive", ("'a.zip'", *damaged), again),
        "truncated": Fails("a.zip", zip_of(good)[:600], plan, "BadArchive", ("'a.zip'", *damaged), again),
        "truncated-tar": Fails("a.tar", tar_of(good)[:1800], plan, "BadArchive", ("'a.tar'", *cut_tar), again),
        "truncated-tgz": Fails(
            "a.tar.gz", whole[: len(whole) // 2], plan, "BadArchive", ("'a.tar.gz'", *cut_tar), again
        ),
        "declared-bomb": Fails(
            "a.zip", declared_bomb(), plan, "BadArchive", ("'a.zip'", "a zip bomb"), ("Pack image files as they are",)
        ),
        "tar-bomb": Fails(
            "a.tar.gz",
            tar_bomb,
            plan,
            "BadArchive",
            ("'a.tar.gz'", "bomb"),
            ("pack image files as they are",),
        ),
        "gzip-bomb": Fails(
            "a.tgz",
            lambda: gzip.compress(bytes(300 * MB), 1),
            plan,
            "BadArchive",
            ("'a.tgz'", "bomb"),
            ("pack image files",),
        ),
        "unsafe-only": Fails(
            "a.tar", tar_of(unsafe), plan, "BadDataset", ("'a.tar'", "2 unsafe name", "'../a/1.png'"), ("relative",)
        ),
        "undecodable": Fails(
            "a.zip",
            zip_of({f"{label}/{number}.png": NO_IMAGE for number in range(3) for label in "ab"}),
            plan,
            "BadDataset",
            ("None of the images", "'a.zip'"),
            ("image viewer",),
        ),
        "one-class": Fails(
            "a.zip", zip_of(images(4, ("cats",))), plan, "BadDataset", ("'a.zip'", "one class", "cats"), ("one folder",)
        ),
        "one-usable-class": Fails(
            "a.zip",
            zip_of({**images(4, ("cats",)), "dogs/1.png": NO_IMAGE}),
            commit,
            "BadDataset",
            ("'a.zip'", "one class only: 'cats'", "1 bad image", "'dogs/1.png'"),
            ("another class",),
        ),
        "conflicting": Fails(
            "a.zip",
            zip_of({f"{label}/{number}.png": png(number) for number in range(3) for label in "ab"}),
            commit,
            "BadDataset",
            ("'a.zip'", "6 conflicting label"),
            ("Upload readable, labelled samples",),
        ),
        "no-header": Fails(
            "a.csv", "\n".join(rows()).encode(), plan, "BadTable", ("'a.csv' has no header row",), ("first row",)
        ),
        "no-rows": Fails("a.csv", csv_of([]), plan, "BadDataset", ("'a.csv' has no rows",), ("Add rows",)),
        "binary-csv": Fails("a.csv", png(1), plan, "BadTable", ("'a.csv' isn't text",), ("CSV with a header row",)),
        "cut-utf-16": Fails(
            "a.csv",
            HEADER.encode("utf-16")[:-1],
            plan,
            "BadTable",
            ("'a.csv' isn't the UTF-16 text",),
            ("Save it as UTF-8",),
        ),
        "no-parquet": Fails("a.parquet", b"PAR1 and no more", plan, "BadTable", ("'a.parquet'",), ("again",)),
        "cut-gzip": Fails(
            "a.csv.gz", gzip.compress(csv_of(rows()))[:-20], plan, "BadTable", ("'a.csv.gz'",), ("again",)
        ),
        "no-zstd": Fails("a.csv.zst", csv_of(rows()), plan, "BadTable", ("'a.csv.zst'",), ("again",)),
        "one-class-of-texts": Fails(
            "a.zip",
            zip_of({"a/1.txt": b"one", "a/2.txt": b"two"}),
            plan,
            "BadDataset",
            ("'a.zip'", "one class"),
            ("folder",),
        ),
        "missing-target": Fails(
            "a.csv",
            csv_of(rows()),
            plan,
            "BadDataset",
            ("'a.csv' has no column 'weight'",),
            ("Set `target` to one of", "'price'"),
            b"target: weight\n",
        ),
        "empty-target": Fails(
            "a.csv",
            csv_of([row.rpartition(",")[0] + "," for row in rows()]),
            plan,
            "BadDataset",
            ("All values of the target 'kind' of 'a.csv' are missing",),
            ("another column",),
        ),
        "one-value": Fails(
            "a.csv",
            csv_of([row.rpartition(",")[0] + ",big" for row in rows()]),
            plan,
            "BadDataset",
            ("same value 'big'", "the target 'kind' of 'a.csv'"),
            ("another class",),
        ),
        "two-classes": Fails(
            "a.csv",
            csv_of([f"{number},{number % 2}" for number in range(40)], "size,kind"),
            plan,
            "BadConfig",
            ("'kind' of 'a.csv' has only 2 classes: 0, 1",),
            ("task: classification",),
            b"task: regression\n",
        ),
        "two-texts": Fails(
            "a.csv",
            csv_of(rows()),
            plan,
            "BadConfig",
            ("A regression needs numbers", "'kind' of 'a.csv'", "texts such as 'small'"),
            ("task: classification",),
            b"task: regression\n",
        ),
        "all-ragged": Fails(
            "a.csv", csv_of(["1", "2"]), plan, "BadDataset", ("'a.csv'", "line 2: it has 1 cells"), ("Quote cells",)
        ),
        "unclosed": Fails(
            "a.csv", csv_of(rows(), '"' + HEADER), plan, "BadDataset", ("'a.csv' has no rows",), ("close its quotes",)
        ),
        "diverging": Fails(
            "a.csv",
            csv_of([f"{number},red,{number**2}e30,big" for number in range(300)]),
            "Train Shard",
            "TrainingDiverged",
            ("'diverging-", "diverged in round 1, worker 0"),
            ("Lower training.learning_rate in dataset.yaml (it was 10",),
            b"target: price\nworkers: 1\ntraining: {learning_rate: 10, optimizer: sgd}\n",
        ),
        "unknown-field": Fails(
            "a.csv",
            csv_of(rows()),
            ingest,
            "BadConfig",
            ("dataset.yaml: unknown field 'tarjet'",),
            ("Did you mean 'target'?",),
            b"tarjet: kind\n",
        ),
        "not-yaml": Fails(
            "a.csv", csv_of(rows()), ingest, "BadConfig", ("isn't valid YAML at line 1",), ("per line",), b"a: ["
        ),
        "out-of-range": Fails(
            "a.csv", csv_of(rows()), ingest, "BadConfig", ("workers: 41",), ("1 to 40",), b"workers: 41\n"
        ),
        "bad name + ü": Fails(
            "a.csv", csv_of(rows()), ingest, "BadName", ("dataset name 'bad name + ü' isn't allowed",), ("letters",)
        ),
        "nowhere.csv": Fails(
            "datasets/nowhere.csv", csv_of(rows()), ingest, "BadName", ("'datasets/nowhere.csv' has no",), ("NAME",)
        ),
        "n" * 900: Fails("a.csv", csv_of(rows()), ingest, "BadName", ("'nnnn", "nnn...'"), ("1 to 64 letters",)),
    }


def going_on() -> dict[str, GoesOn]:
    good = images()
    kept = len(good)
    unsafe = {"../out/1.png": png(1), "/etc/2.png": png(2), "dark/../../3.png": png(3), "C:\\dark\\4.png": png(4)}
    links = {
        "dark/link.png": (tarfile.SYMTYPE, "/etc/passwd"),
        "dark/hard.png": (tarfile.LNKTYPE, "dark/1.png"),
        "dark/device.png": (tarfile.CHRTYPE, ""),
        "dark/pipe.png": (tarfile.FIFOTYPE, ""),
    }
    undecodable = {
        "dark/text.png": NO_IMAGE,
        "dark/empty.png": b"",
        "dark/cut.png": png(5)[:60],
        "light/pixels.png": huge_pixels(),
    }
    table = rows()
    ragged = [*table[:3], "1,red", *table[3:5], "2,blue,3,small,surplus", *table[5:]]
    json_rows = [
        {"size": number, "colour": "\ud800x" if number % 5 else "red", "kind": "big" if number > 20 else "small"}
        for number in range(40)
    ]
    json_lines = [*(json.dumps(row) for row in json_rows), "[1]", "{broken", '{"size": ' + "9" * 5000 + "}"]
    loose = images(12, ("class one + 1", "klasse «ü» 2"))
    return {
        "good": GoesOn({"a.zip": zip_of(good)}, kept),
        "unsafe-zip": GoesOn(
            {"a.zip": zip_of({**good, **unsafe}, {"dark/link.png": "/etc/passwd"})},
            kept,
            {"unsafe_name": 4, "link": 1},
            (
                "'../out/1.png': its name leads out",
                "'/etc/2.png': its name is absolute",
                "'dark/link.png': it is a link",
            ),
        ),
        "unsafe-tar": GoesOn(
            {"a.tar": tar_of({**good, **unsafe, "dark/more.zip": zip_of(good)}, links)},
            kept,
            {"unsafe_name": 4, "link": 4, "nested_archive": 1},
            (
                "'dark/more.zip': it is an archive inside",
                "'../out/1.png': its name leads out",
                "'/etc/2.png'",
                "'dark/link.png'",
                "'dark/hard.png'",
            ),
        ),
        "lying-bomb": GoesOn(
            {"a.zip": partial(lying_bomb, good)}, kept, {"damaged": 1}, ("'dark/bomb.png': it is damaged",)
        ),
        "damaged-member": GoesOn(
            {"a.zip": damaged_member(good)}, kept, {"damaged": 1}, ("'dark/damaged.png': it is damaged",)
        ),
        "some-undecodable": GoesOn(
            {"a.zip": zip_of({**good, **undecodable})},
            kept,
            {"bad_image": 4},
            (
                "'dark/text.png' isn't an image",
                "'dark/empty.png' is empty",
                "'dark/cut.png' is damaged",
                "'light/pixels.png' has more than 50,000,000 pixels",
            ),
        ),
        "one-sample": GoesOn(
            {"a.zip": zip_of({**good, "single/1.png": png(77, 120)})},
            kept + 1,
            warnings=("Class 'single' has one sample only",),
        ),
        "utf-16": GoesOn({"a.csv": csv_of(table).decode().encode("utf-16")}, len(table)),
        "ragged": GoesOn(
            {"a.csv": csv_of(ragged)},
            len(table),
            {"ragged_row": 2},
            ("Line 5: it has 2 cells, the header has 4", "Line 8: it has 5 cells, the header has 4"),
        ),
        "empty-column": GoesOn(
            {"a.csv": csv_of([f",{row}" for row in (*table, "lots,red,2,big", "1,red,2,")], f"notes,{HEADER}")},
            len(table),
            {"bad_value": 1, "missing_target": 1},
            ("Line 42, column 'size': 'lots': it isn't a number", "Line 43: the target 'kind' is missing"),
            columns={"notes": "every value is missing"},
        ),
        "bad-json-rows": GoesOn(
            {"a.jsonl": "\n".join(json_lines).encode()},
            len(json_rows),
            {"bad_json": 2, "not_an_object": 1},
            ("Line 41: it is a JSON list", "Line 42: it isn't JSON", "Line 43: it isn't JSON"),
        ),
        "odd-names": GoesOn(
            {ODD: zip_of({**images(12, ("dark one+", "«ü» 数据")), "dark one+/" + "n" * 1000 + ".png": png(999)})},
            kept + 1,
        ),
        "latin-1-names": GoesOn({"a.tar": latin_1_tar_of(images(12, ("café", "thé")))}, kept),
        "long-key": GoesOn({LONG: csv_of(table)}, len(table)),
        "long-unicode-key": GoesOn({LONG_UNICODE: csv_of(table)}, len(table)),
        "long-loose-keys": GoesOn(
            {
                **{
                    f"{LONG_LOOSE}{name[:-4]}-{'x' * (995 - len(LONG_LOOSE) - len(name.encode()))}.png": data
                    for name, data in loose.items()
                },
                f"{LONG_LOOSE}klasse «ü» 2/bad.png": NO_IMAGE,
                f"{LONG_LOOSE}../out/1.png": png(1),
            },
            kept,
            {"bad_image": 1, "unsafe_name": 1},
            ("'klasse «ü» 2/bad.png' isn't an image", "'../out/1.png': its name leads out"),
        ),
    }
