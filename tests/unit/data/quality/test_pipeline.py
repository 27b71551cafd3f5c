"""Quality through plan, write, assign, pack and commit, with the real sets of examples/."""

import json

import jsonschema
import pytest

from shoal_core.data.manifest import Manifest
from shoal_core.data.planning import plan_dataset
from shoal_core.data.quality.quarantine import read_quarantine
from shoal_core.data.quality.reporting import choose_compared
from shoal_core.data.quality.schema import report_schema
from shoal_core.data.writing import write_shard
from shoal_core.errors import BadConfig, BadDataset
from shoal_core.keys import DatasetKeys
from tests.support.aws import ROOT
from tests.unit.data.builders import KEYS, Case, csv_of, csv_rows, image_members, jsonl_of, zip_of

PENGUINS = (ROOT / "examples/penguins/penguins.csv").read_bytes()
DIGITS = (ROOT / "examples/digits/digits.zip").read_bytes()
SCHEMA = ROOT / "docs/schemas/report.schema.json"


def failed(case):
    with pytest.raises(BadDataset) as caught:
        case.run()
    assert not case.artifacts.exists(KEYS.manifest)
    return caught.value


def test_broken_expectations_stop_the_run_and_the_report_tells_the_rows():
    expect = [
        {"column": "body_mass_g", "min": 3000, "max_missing": 0.01},
        {"column": "sex", "values": ["male", "female"]},
        {"column": "year", "unique": True},
        {"min_per_class": 60},
        {"min_samples": 300},
    ]
    case = Case({"penguins.csv": PENGUINS}, target="species", expect=expect)
    error = failed(case)
    assert error.reason == (
        "'penguins.csv' breaks 2 expectations of dataset.yaml: body_mass_g: at least 3,000 (9 of 342 rows broke it; "
        "line 49: '2975', line 56: '2900', line 60: '2850'); year: every value once (341 of 344 rows broke it; "
        "line 3: '2007', line 4: '2007', line 5: '2007')."
    )
    report = case.report
    assert [found.held for found in report.expectations] == [False, True, True, False, True, True]
    assert len(report.expectations[0].examples) == 9
    assert b"2 of 6 expectations broken" in case.artifacts.read(KEYS.report_page)
    assert failed(case).reason == error.reason


def test_held_expectations_let_the_run_go_on():
    case = Case({"digits.zip": DIGITS}, expect=[{"min_per_class": 171}, {"min_samples": 1767}])
    assert sum(case.run().samples.values()) == 1767
    assert all(found.held for found in case.report.expectations)
    assert case.report.sources == {"format": {"PNG": 1767}, "mode": {"grey": 1767}, "size": {"8 x 8": 1767}}
    page = case.artifacts.read(KEYS.report_page)
    assert page.count(b"data:image/png;base64,") == 60


@pytest.mark.parametrize(
    ("files", "config", "reason"),
    [
        ({"penguins.csv": PENGUINS}, {"expect": [{"column": "body_mass", "min": 1}]}, "of a column 'body_mass'"),
        ({"digits.zip": DIGITS}, {"expect": [{"column": "label", "min": 1}]}, "which 'digits.zip' doesn't have"),
        (
            {"penguins.csv": PENGUINS},
            {"target": "body_mass_g", "task": "regression", "expect": [{"min_per_class": 1}]},
            "this dataset has none",
        ),
    ],
)
def test_what_cant_be_expected_is_refused_with_the_plan(files, config, reason):
    case = Case(files, **config)
    with pytest.raises(BadConfig, match=reason) as caught:
        case.plan()
    assert caught.value.fix and not case.artifacts.exists(KEYS.plan)


def test_rows_of_every_kind_are_checked_alike():
    rows = csv_rows(300)
    expect = [{"column": "width", "min": -1, "max": 1, "max_missing": 0.01}, {"column": "height", "unique": True}]
    reports = []
    for files in ({"t.csv": csv_of(rows)}, {"t.tsv": csv_of(rows, "\t")}, {"t.jsonl": jsonl_of(rows)}):
        case = Case(files, target="label", expect=expect)
        failed(case)
        counts = [(found.what, found.checked, found.broken) for found in case.report.expectations]
        reports.append((counts, [row.value for row in case.report.expectations[0].examples]))
    assert reports[0] == reports[1] == reports[2]
    below = sum(row["width"] is not None and row["width"] < -1 for row in rows)
    assert reports[0][0][0] == ("width: at least -1", sum(row["width"] is not None for row in rows), below)


def test_bad_images_are_kept_with_their_bytes_and_written_once():
    members = image_members(per_class=20)
    members["digits/0/000.png"] = b"no image"
    members["digits/9/001.png"] = members["digits/9/001.png"][:40]
    members["digits/stray.png"] = members["digits/1/000.png"]
    case = Case({"digits.zip": zip_of(members)})
    case.run()
    page = read_quarantine(case.artifacts, "set", "v1")
    found = {sample.place: sample for sample in page.samples}
    assert set(found) == {"digits/0/000.png", "digits/9/001.png", "digits/stray.png"}
    for place, sample in found.items():
        assert case.artifacts.read(sample.key) == members[place]
        assert sample.reason and sample.fix
    assert (case.report.quarantine.samples, case.report.quarantine.left_out) == (3, 0)
    before = {key: data for key, data in case.artifacts.objects.items() if key.startswith("quarantine/")}
    for item in range(len(plan_dataset(case.uploads, case.artifacts, "set", "v1").items)):
        del case.artifacts.objects[KEYS.piece_index(item)]
        write_shard(case.uploads, case.artifacts, "set", "v1", item)
    assert before == {key: data for key, data in case.artifacts.objects.items() if key.startswith("quarantine/")}


def test_bad_rows_are_kept_as_text():
    lines = PENGUINS.decode().splitlines()
    lines[5] += ",more"
    lines[9] = lines[9].replace("Adelie", "")
    case = Case({"penguins.csv": "\n".join(lines).encode()}, target="species")
    case.run()
    found = {sample.place: sample for sample in read_quarantine(case.artifacts, "set", "v1").samples}
    assert {place: sample.code for place, sample in found.items()} == {
        "line 6": "ragged_row",
        "line 10": "missing_target",
    }
    assert found["line 6"].row.strip() == lines[5]
    cells = json.loads(found["line 10"].row)
    assert list(cells.values()) == lines[9].split(",") and list(cells) == lines[0].split(",")


def test_a_second_version_is_compared_with_the_first():
    first = Case({"penguins.csv": PENGUINS}, target="species")
    first.run()
    heavier = [line.replace("Gentoo", "Adelie") for line in PENGUINS.decode().splitlines()]
    second = Case({"penguins.csv": "\n".join(heavier).encode()}, target="species")
    first_keys = DatasetKeys("set", "v0")
    manifest = Manifest.decode(first.artifacts.read(KEYS.manifest))
    second.artifacts.write(first_keys.manifest, manifest.model_copy(update={"version": "v0"}).encode())
    assert choose_compared(second.artifacts, KEYS, "v0") == "v0"
    assert choose_compared(second.artifacts, KEYS, "another") == "v0"
    second.run()
    drift = second.report.drift
    assert (drift.version, drift.columns[0].kind, drift.columns[0].level) == ("v0", "classes", "large")
    assert drift.columns[0].lost == ("Gentoo",)
    assert {column.level for column in drift.columns[1:]} == {"none"}
    assert b"large drift" in second.artifacts.read(KEYS.report_page)


def test_the_first_version_has_nothing_to_be_compared_with():
    case = Case({"t.csv": csv_of(csv_rows(60))}, target="label")
    assert choose_compared(case.artifacts, KEYS, None) is None
    case.run()
    assert case.report.drift is None


def test_the_report_doesnt_depend_on_the_attempt():
    runs = []
    for _ in range(2):
        case = Case({"penguins.csv": PENGUINS}, target="species")
        case.run()
        runs.append((case.artifacts.read(KEYS.report), case.artifacts.read(KEYS.report_page)))
    assert runs[0] == runs[1]


def test_the_published_schema_is_fresh_and_holds():
    fresh = "run: python -m shoal_core.data.quality.schema docs/schemas/report.schema.json"
    assert SCHEMA.read_text(encoding="utf-8") == report_schema(), fresh
    case = Case({"penguins.csv": PENGUINS}, target="species", expect=[{"column": "sex", "values": ["male"]}])
    failed(case)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(case.artifacts.read(KEYS.report)), schema)


def test_constant_leaking_and_duplicate_columns_are_flagged():
    rows = csv_rows(200)
    for row in rows:
        row |= {"copy": row["label"], "code": 7 if row["label"] == "big" else 3, "unit": "cm"}
        row["inches"] = round(float(row["height"]) / 2.54, 6)
    case = Case({"t.csv": csv_of(rows)}, target="label")
    case.run()
    flags = {flag.column: flag.kind for flag in case.report.flags}
    assert flags == {"copy": "leaking", "code": "leaking", "unit": "constant", "inches": "duplicate"}
    page = case.artifacts.read(KEYS.report_page).decode()
    assert page.count("leaking") == 2 and "constant" in page
