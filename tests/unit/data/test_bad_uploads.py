"""Every kind of bad file, in every format of every kind of data: a clear error, or the rest goes on."""

import gzip
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import zstandard

from shoal_core.errors import BadInput
from tests.e2e import bad_files
from tests.unit.data.builders import Case, grey_png

_NOBODYS_FAULT = ("duplicate", "duplicate_row", "crosses_splits", "other_split")
SUFFIXES = {"zip": bad_files.zip_of, "tar": bad_files.tar_of, "tgz": bad_files.tar_gz_of}
WORDS = ("warm", "dull", "long", "fine", "odd", "new", "old", "big")


def text(number: int, label: str) -> bytes:
    return f"a {WORDS[number % 8]} film, {WORDS[number // 8 % 8]} and {label}, number {number}".encode()


def good_files(kind: str, per_class: int = 12, classes: tuple[str, ...] = ("dark", "light")) -> dict[str, bytes]:
    """Name -> bytes, in class folders."""
    if kind == "images":
        return bad_files.images(per_class, classes)
    return {f"{label}/{number}.txt": text(number, label) for label in classes for number in range(per_class)}


def ending(kind: str) -> str:
    return "png" if kind == "images" else "txt"


def counts(case: Case) -> dict[str, int]:
    case.run()
    for drop in case.report.drops.examples:
        assert drop.reason and (drop.fix or drop.code in _NOBODYS_FAULT)
    return dict(case.report.drops.counts)


def refused(case: Case, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        case.run()
    assert caught.value.fix
    for word in words:
        assert word in caught.value.reason


KINDS = pytest.mark.parametrize("kind", ["images", "texts"])
PACKED = pytest.mark.parametrize("packed", SUFFIXES)


@KINDS
@PACKED
class TestArchives:
    def test_empty_ones(self, kind: str, packed: str) -> None:
        refused(Case({f"a.{packed}": SUFFIXES[packed]({})}), f"'a.{packed}' holds no files")
        good = Case({f"a.{packed}": SUFFIXES[packed](good_files(kind)), f"b.{packed}": SUFFIXES[packed]({})})
        refused(good, f"'b.{packed}' holds no files")

    def test_corrupt_and_cut_ones(self, kind: str, packed: str) -> None:
        data = SUFFIXES[packed](good_files(kind))
        refused(Case({f"a.{packed}": data[: len(data) // 2]}), f"'a.{packed}'")
        refused(Case({f"a.{packed}": data[:4] + b"corrupt" * 99}), f"'a.{packed}'")

    def test_unsafe_and_nested_members(self, kind: str, packed: str) -> None:
        end = ending(kind)
        bad = {
            f"../up.{end}": b"x",
            f"/rooted.{end}": b"x",
            f"C:/drive.{end}": b"x",
            f"light/../../far.{end}": b"x",
            "light/more.zip": b"PK\x03\x04",
            f"__MACOSX/light/._0.{end}": b"x",
            "light/.DS_Store": b"x",
        }
        case = Case({f"a.{packed}": SUFFIXES[packed](good_files(kind) | bad)})
        assert counts(case) == {"unsafe_name": 4, "nested_archive": 1}
        assert case.report.kept == 24

    def test_links_and_devices(self, kind: str, packed: str) -> None:
        good, end = good_files(kind), ending(kind)
        if packed == "zip":
            data, expected = bad_files.zip_of(good, {f"light/link.{end}": "0"}), 1
        else:
            links = {
                f"light/soft.{end}": (tarfile.SYMTYPE, "/etc/passwd"),
                f"light/hard.{end}": (tarfile.LNKTYPE, f"light/0.{end}"),
                f"light/pipe.{end}": (tarfile.FIFOTYPE, ""),
            }
            data, expected = bad_files.tar_of(good, links), 3
            data = gzip.compress(data, 1, mtime=0) if packed == "tgz" else data
        case = Case({f"a.{packed}": data})
        assert counts(case) == {"link": expected} and case.report.kept == 24

    def test_files_of_another_kind_and_damaged_ones(self, kind: str, packed: str) -> None:
        bad = {"light/readme.pdf": b"%PDF", f"dark/zeros.{ending(kind)}": bytes(99), f"dark/none.{ending(kind)}": b""}
        case = Case({f"a.{packed}": SUFFIXES[packed](good_files(kind) | bad)})
        codes = {
            "images": {"bad_image": 2, "not_an_image": 1},
            "texts": {"bad_text": 1, "empty_text": 1, "not_a_text": 1},
        }
        assert counts(case) == codes[kind] and case.report.kept == 24

    def test_one_class_and_a_class_with_one_sample(self, kind: str, packed: str) -> None:
        refused(Case({f"a.{packed}": SUFFIXES[packed](good_files(kind, classes=("dark",)))}), "one class")
        single = good_files(kind) | {f"rare/0.{ending(kind)}": grey_png(5) if kind == "images" else b"a rare one"}
        case = Case({f"a.{packed}": SUFFIXES[packed](single)})
        assert counts(case) == {} and case.report.class_counts["train"]["rare"] == 1
        assert any("'rare'" in warning for warning in case.report.warnings)

    def test_odd_names(self, kind: str, packed: str) -> None:
        end = ending(kind)
        names = [f"light/a + b %41 é.{end}", f"light/日本.{end}", f"dark/{'x' * 200}.{end}", f"dark/#1?&=.{end}"]
        fresh = [grey_png(9 + place) if kind == "images" else text(place, "odd") for place in range(4)]
        odd = dict(zip(names, fresh, strict=True))
        case = Case({f"a.{packed}": SUFFIXES[packed](good_files(kind) | odd)})
        assert counts(case) == {} and case.report.kept == 28


@KINDS
def test_a_zip_member_whose_bytes_changed_is_told(kind: str) -> None:
    good = good_files(kind)
    name = next(iter(good))
    data = bytearray(bad_files.zip_of({f"dark/first.{ending(kind)}": bytes(range(256)) * 4, **good}))
    data[200] ^= 0xFF
    case = Case({"a.zip": bytes(data)})
    assert counts(case) == {"damaged": 1} and name.startswith("dark/")


@KINDS
def test_a_bomb_is_refused_before_it_unpacks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal_core.data import archives

    monkeypatch.setattr(archives, "LIMITS", archives.LIMITS._replace(ratio_floor=100_000, ratio=50))
    monkeypatch.setattr(archives.list_members, "__defaults__", (archives.LIMITS,))
    monkeypatch.setattr(archives.unpack_members, "__defaults__", (archives.LIMITS,))
    zeros = {f"{label}/{number}.{ending(kind)}": bytes(100_000) for label in "ab" for number in range(9)}
    for packed in ("zip", "tgz"):
        refused(Case({f"a.{packed}": SUFFIXES[packed](zeros)}), f"'a.{packed}'", "bomb")


@KINDS
def test_loose_files(kind: str) -> None:
    end = ending(kind)
    bad = {f"dark/none.{end}": b"", f"dark/zeros.{end}": bytes(99), "light/x.exe": b"MZ", f"top.{end}": b"a b c"}
    case = Case(good_files(kind) | bad)
    found = counts(case)
    assert found.pop("no_class_folder", 0) + found.get("bad_image", 0) >= 1 and case.report.kept == 24
    refused(Case(good_files(kind, classes=("dark",))), "one class")


# Tables.

Rows = list[dict[str, object]]


def rows(count: int = 60) -> Rows:
    return [
        {
            "size": number * 7 % 41,
            "colour": ("red", "blue")[number % 2],
            "kind": "big" if number * 7 % 41 > 20 else "small",
        }
        for number in range(count)
    ]


def csv_of(found: Rows) -> bytes:
    names = list(dict.fromkeys(name for row in found for name in row)) or ["size", "colour", "kind"]
    lines = [",".join("" if row.get(name) is None else str(row[name]) for name in names) for row in found]
    return "\n".join([",".join(names), *lines, ""]).encode()


def jsonl_of(found: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in found).encode()


def parquet_of(found: Rows) -> bytes:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as database:
        lines, path = Path(folder) / "rows.jsonl", Path(folder) / "rows.parquet"
        lines.write_bytes(jsonl_of(found))
        nothing = "SELECT 1 AS size, 'red' AS colour, 'big' AS kind WHERE false"
        table = database.read_json(str(lines)) if found else database.sql(nothing)
        table.write_parquet(str(path))
        return path.read_bytes()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "csv": csv_of,
    "tsv": lambda found: csv_of(found).replace(b",", b"\t"),
    "jsonl": jsonl_of,
    "json": lambda found: json.dumps(found).encode(),
    "parquet": parquet_of,
    "csv.gz": lambda found: gzip.compress(csv_of(found), 1),
    "jsonl.zst": lambda found: zstandard.compress(jsonl_of(found)),
}
WINDOWS = {"sequence": {"time": "at", "window": 4}}


def timed(found: Rows) -> Rows:
    return [{"at": place, **row} for place, row in enumerate(found)]


@pytest.mark.parametrize("windows", [False, True], ids=["rows", "windows"])
@pytest.mark.parametrize("form", FORMATS)
class TestTables:
    def case(self, form: str, windows: bool, found: Rows, **config: object) -> Case:
        data = FORMATS[form](timed(found) if windows else found)
        return Case({f"a.{form}": data}, **({**WINDOWS, **config} if windows else config))

    def test_no_rows(self, form: str, windows: bool) -> None:
        refused(self.case(form, windows, []), f"'a.{form}'")

    def test_cut_or_no_such_file(self, form: str, windows: bool) -> None:
        data = FORMATS[form](timed(rows()))
        config = WINDOWS if windows else {}
        refused(Case({f"a.{form}": b"\0\1\2\3 nothing of the kind"}, **config), f"'a.{form}'")
        if form not in ("csv", "tsv", "jsonl"):
            refused(Case({f"a.{form}": data[: len(data) - 20]}, **config), f"'a.{form}'")

    def test_a_missing_target_drops_the_row(self, form: str, windows: bool) -> None:
        found = rows()
        found[5]["kind"] = None
        case = self.case(form, windows, found, target="kind")
        assert counts(case)["missing_target"] == 1
        refused(self.case(form, windows, found, target="nothing"), "'nothing'")
        refused(self.case(form, windows, [{**row, "kind": None} for row in found], target="kind"), "kind")

    def test_a_column_without_values_is_left_out(self, form: str, windows: bool) -> None:
        case = self.case(form, windows, [{"notes": None, **row} for row in rows()], target="kind")
        case.run()
        (notes,) = [column for column in case.report.columns if column.name == "notes"]
        assert (notes.role, notes.reason) == ("dropped", "every value is missing")

    def test_two_classes_are_no_regression(self, form: str, windows: bool) -> None:
        refused(self.case(form, windows, rows(), target="kind", task="regression"), "kind")
        halves = [{**row, "kind": place % 2} for place, row in enumerate(rows())]
        refused(self.case(form, windows, halves, target="kind", task="regression"), "2 classes")

    def test_one_class_alone_and_one_with_one_sample(self, form: str, windows: bool) -> None:
        refused(self.case(form, windows, [{**row, "kind": "big"} for row in rows()], target="kind"), "same value")
        found = rows()
        found[20]["kind"] = "huge"
        case = self.case(form, windows, found, target="kind", **({} if windows else {"split": {"test": 0.4}}))
        case.run()
        assert sum(by["huge"] for by in case.report.class_counts.values()) == 1
        assert windows or case.report.class_counts["train"]["huge"] == 1

    def test_wrong_values_drop_their_rows(self, form: str, windows: bool) -> None:
        found = rows(200)
        for place in (3, 77):
            found[place]["size"] = "heavy"
        case = self.case(form, windows, found, target="kind")
        assert counts(case)["bad_value"] == 2


@pytest.mark.parametrize("windows", [False, True], ids=["rows", "windows"])
@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.csv", csv_of(timed(rows())) + b"1,2\n3,4,5,6,7,8\n", "ragged_row"),
        ("a.tsv", csv_of(timed(rows())).replace(b",", b"\t") + b"1\t2\n3\n", "ragged_row"),
        ("a.csv.gz", gzip.compress(csv_of(timed(rows())) + b"1,2\n3\n", mtime=0), "ragged_row"),
        ("a.jsonl", jsonl_of(timed(rows())) + b'{broken\n{"size": \n', "bad_json"),
        ("a.jsonl.zst", zstandard.compress(jsonl_of(timed(rows())) + b"[1]\n7\n"), "not_an_object"),
        ("a.json", json.dumps([*timed(rows()), 5, "x"]).encode(), "not_an_object"),
    ],
)
def test_rows_that_are_no_rows_are_told(name: str, data: bytes, code: str, windows: bool) -> None:
    case = Case({name: data}, target="kind", **(WINDOWS if windows else {}))
    assert counts(case)[code] == 2
    assert {drop.file for drop in case.report.drops.examples if drop.code == code} == {name}


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_a_table_needs_a_header(name: str) -> None:
    data = csv_of(rows()).split(b"\n", 1)[1].replace(b",", b"\t" if "tsv" in name else b",")
    refused(Case({name: gzip.compress(data) if name.endswith("gz") else data}), "no header row")
