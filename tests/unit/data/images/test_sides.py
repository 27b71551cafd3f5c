import csv
import io

import numpy as np
import pytest

from shoal_core.data.images.item_labels import read_item_labels
from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.columns import meaning_digests
from shoal_core.data.tables.hashing import row_hashes
from shoal_core.errors import BadConfig, BadDataset
from tests.unit.data.builders import Case, tar_of, zip_of
from tests.unit.data.images.cases import ImageCase, save, scans

PATIENTS = 25


def name_of(index: int) -> str:
    return f"scans/{'odd' if index % 2 else 'even'}/p{index % PATIENTS:02d}_{index}.png"


FILES = {name_of(index): save(scans()[index], "PNG") for index in range(60)}
ROWS = [
    {
        "file": name,
        "patient": f"p{index % PATIENTS:02d}",
        "taken": f"2026-01-{1 + index // 2:02d}",
        "label": "odd" if index % 2 else "even",
    }
    for index, name in enumerate(FILES)
]


def table(rows: list[dict[str, object]], *columns: str) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, columns or list(rows[0]), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


LABELS = table(ROWS)
PATIENTS_ALONE = table(ROWS, "file", "patient")
UPLOADS = {
    "zip with a table": ({"a.zip": zip_of({**FILES, "labels.csv": LABELS})}, "patient"),
    "tar.gz with a table": ({"a.tar.gz": tar_of({**FILES, "labels.csv": LABELS}, True)}, "patient"),
    "loose with a table": ({**FILES, "labels.csv": LABELS}, "patient"),
    "class folders, and a table of patients": ({"a.zip": zip_of(FILES), "people.csv": PATIENTS_ALONE}, "patient"),
    "one table of labels, one of patients": (
        {"a.zip": zip_of(FILES), "labels.csv": table(ROWS, "file", "label"), "people.csv": PATIENTS_ALONE},
        "patient",
    ),
    "a part of the name": ({"a.zip": zip_of(FILES)}, "**/{group}_*"),
    "a folder": (
        {f"{name[-6:-4].strip('_')}/{name}": data for name, data in FILES.items()},
        "{group}/**",
    ),
}


def places(case: Case, manifest) -> dict[str, set[str]]:
    """Split -> the pixels of its images, told by their files."""
    pixels = {scans()[index].tobytes(): index for index in range(60)}
    return {
        split: {pixels[image[0].tobytes()] for image in case.tensors(manifest, split)["image"]}
        for split in ("train", "validation", "test")
    }


@pytest.mark.parametrize("shape", UPLOADS)
def test_a_group_lies_on_one_side_whatever_says_so(shape):
    files, group = UPLOADS[shape]
    case = Case(files, split={"group": group, "validation": 0.3, "test": 0.3})
    manifest = case.run()
    found = places(case, manifest)
    assert sum(map(len, found.values())) == 60 and min(map(len, found.values())) > 3
    key = (lambda index: name_of(index)[-6:-4].strip("_")) if shape == "a folder" else (lambda index: index % PATIENTS)
    groups = {split: {key(index) for index in indices} for split, indices in found.items()}
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["validation"]
    assert not groups["validation"] & groups["test"]
    assert manifest.spec.target.classes == ("even", "odd")
    assert sum(by["odd"] for by in manifest.class_counts.values()) == 30


def test_every_way_to_name_a_group_puts_images_on_the_same_side():
    sides = []
    for shape in list(UPLOADS)[:-1]:
        files, group = UPLOADS[shape]
        case = Case(files, split={"group": group})
        sides.append(places(case, case.run()))
    assert all(found == sides[0] for found in sides)


def test_the_group_is_the_one_that_a_table_of_the_same_values_has():
    case = ImageCase({**FILES, "labels.csv": LABELS}, split={"group": "patient"})
    tensors, _ = case.encode(case.plan())
    expected = row_hashes([("", meaning_digests(Cells.of([row["patient"] for row in ROWS])))], len(ROWS))
    order = [list(FILES).index(name) for name in tensors["place"].tolist()]
    np.testing.assert_array_equal(tensors["group"], expected[order])


@pytest.mark.parametrize(
    ("column", "write"),
    [
        ("taken", lambda row: row["taken"]),
        ("day", lambda row: int(row["taken"][-2:])),
        ("when", lambda row: f"{int(row['taken'][-2:])}/1/2026"),
        ("stamp", lambda row: f"{row['taken']}T12:00:00+01:00"),
    ],
)
def test_the_newest_images_are_held_out(column, write):
    rows = [{"file": row["file"], column: write(row), "label": row["label"]} for row in ROWS]
    case = Case(
        {"a.zip": zip_of(FILES), "labels.csv": table(rows)}, split={"time": column, "validation": 0.2, "test": 0.1}
    )
    found = places(case, case.run())
    assert found["test"] == set(range(54, 60)) and found["validation"] == set(range(42, 54))


def test_the_time_may_be_a_part_of_the_name():
    files = {f"{name.rpartition('/')[0]}/{index:03d}-x.png": data for index, (name, data) in enumerate(FILES.items())}
    case = Case(files, split={"time": "**/{time}-*", "validation": 0.2, "test": 0.1})
    assert places(case, case.run())["test"] == set(range(54, 60))


def test_images_without_a_time_are_told_and_those_without_a_group_are_one():
    rows = [dict(row) for row in ROWS]
    rows[0]["taken"], rows[1]["taken"], rows[2]["patient"] = "", "soon", ""
    rows.append({**rows[3], "taken": "2026-02-01", "patient": "other"})
    rows.pop(4)
    upload = {"a.zip": zip_of(FILES), "labels.csv": table(rows)}
    plan = ImageCase(upload, split={"time": "taken"}).plan()
    assert plan.drops.counts == {"missing_time": 1, "bad_value": 1, "ambiguous_label": 1, "no_label": 1}
    told = {drop.code: drop for drop in plan.drops.examples}
    assert told["bad_value"].place == name_of(1) and "'soon'" in told["bad_value"].reason and told["bad_value"].fix
    case = ImageCase(upload, split={"group": "patient"})
    plan = case.plan()
    assert plan.drops.counts == {"ambiguous_label": 1, "no_label": 1}
    assert plan.warnings == ("2 files have no 'patient': they are one group.",)
    tensors, _ = case.encode(plan)
    assert len(np.unique(tensors["group"], axis=0)) == PATIENTS + 1


def test_item_labels_hold_what_an_item_needs():
    case = Case({"a.zip": zip_of(FILES), "people.csv": PATIENTS_ALONE}, split={"group": "patient"})
    plan = case.plan()
    assert not plan.labelled
    found = read_item_labels(case.artifacts, plan, 0)
    assert list(found.columns) == ["group"] and found.row(10_000) is None


@pytest.mark.parametrize(
    ("files", "split", "words"),
    [
        (FILES, {"group": "patient"}, "no table of 'set' names its files and has a column 'patient'"),
        ({**FILES, "labels.csv": LABELS}, {"group": "person"}, "has a column 'person'"),
        (FILES, {"group": "{group}-*"}, "no file of 'set' has a name like"),
        ({**FILES, "labels.csv": LABELS}, {"time": "patient"}, "neither dates nor numbers"),
        (FILES, {"time": "**/{time}_*"}, "neither dates nor numbers"),
    ],
)
def test_settings_that_the_images_do_not_allow(files, split, words):
    with pytest.raises(BadConfig, match=words) as caught:
        ImageCase(files, split=split).plan()
    assert caught.value.fix


def test_two_tables_of_groups_are_refused():
    upload = {**FILES, "one.csv": PATIENTS_ALONE, "two.csv": PATIENTS_ALONE}
    with pytest.raises(BadDataset, match=r"'one\.csv', 'two\.csv'"):
        ImageCase(upload, split={"group": "patient"}).plan()
