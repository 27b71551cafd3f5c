import numpy as np
import pytest

from shoal_core.data.pieces import MARKS, PieceIndex, decode_piece, distinct_rows
from shoal_core.data.writing import write_shard
from shoal_core.errors import NotFound
from tests.unit.data.builders import KEYS, Case, csv_of, csv_rows, grey_png, image_members, jsonl_of, zip_of


def written(case: Case, item: int = 0) -> PieceIndex:
    case.plan()
    return write_shard(case.uploads, case.artifacts, "set", "v1", item)


def tensors_of(case: Case, index: PieceIndex):
    return decode_piece(case.artifacts.read(index.file.key), index.layout)


def test_a_piece_holds_its_samples_in_split_order():
    case = Case({"d.zip": zip_of(image_members())})
    index = written(case, 1)
    assert index.samples == 40 == sum(sum(counts.values()) for counts in index.class_counts.values())
    part = tensors_of(case, index)
    assert part["image"].shape[1:] == (1, 8, 8)
    assert (np.diff(part["position"]) >= 0).all()
    assert set(part["target"].tolist()) == {1}
    # The index tells where each part of the positions begins, and how to find it in the file.
    assert len(index.marks) == MARKS
    assert [int((part["position"] < mark << 43).sum()) for mark in range(MARKS)] == list(index.marks)
    assert index.file.starts.keys() == {"keys", "near_hash", "rows"}
    assert distinct_rows(index.sketch) == 40


@pytest.mark.parametrize("name", ["d.zip", "t.csv"])
def test_a_killed_or_repeated_call_ends_in_the_same_bytes(name):
    data = zip_of(image_members()) if name == "d.zip" else csv_of(csv_rows(300))
    case = Case({name: data})
    first = written(case)
    before = dict(case.artifacts.objects)
    assert written(case) == first
    # Killed before the index was written: the pieces are there, one of them only in part of its keys.
    del case.artifacts.objects[KEYS.piece_index(0)]
    case.artifacts.objects[first.file.key] = b"half"
    assert written(case) == first
    assert case.artifacts.objects == before


def test_bad_images_are_dropped_with_the_reason():
    members = {**image_members(10), "digits/0/bad one+é.png": b"nope", "digits/1/cut.png": grey_png(1)[:50]}
    index = written(Case({"d.zip": zip_of(members)}))
    assert index.samples == 40 and index.drops.counts == {"bad_image": 2}
    example = index.drops.examples[0]
    assert example.place == "digits/0/bad one+é.png" and example.fix
    assert "bad one+é.png" in example.reason


def test_images_outside_class_folders_are_dropped():
    index = written(Case({"d.zip": zip_of({**image_members(10), "digits/cover.png": grey_png(1)})}))
    assert index.drops.counts == {"no_class_folder": 1}


def test_bad_rows_are_dropped_with_their_line():
    lines = csv_of(csv_rows(60)).decode().splitlines()
    lines[10] += ",extra"
    lines[20] = "oops," + lines[20].split(",", 1)[1]
    lines[30] = lines[30].rsplit(",", 1)[0] + ","
    index = written(Case({"t.csv": "\n".join(lines).encode()}))
    assert index.samples == 57
    assert {drop.place: drop.code for drop in index.drops.examples} == {
        "line 11": "ragged_row",
        "line 21": "bad_value",
        "line 31": "missing_target",
    }
    bad = next(drop for drop in index.drops.examples if drop.code == "bad_value")
    assert bad.reason.startswith("Line 21, column 'width': 'oops'") and bad.fix


def test_csv_and_json_lines_give_the_same_pieces():
    rows = csv_rows(60)
    found = []
    for name, data in (("t.csv", csv_of(rows)), ("t.jsonl", jsonl_of(rows))):
        case = Case({name: data})
        index = written(case)
        found.append(tensors_of(case, index))
    for name, array in found[0].items():
        if name == "place":  # a CSV has a header line
            array = array - 1
        assert array.tobytes() == found[1][name].tobytes(), name


def test_a_work_item_that_does_not_exist():
    with pytest.raises(NotFound, match="work item 9"):
        written(Case({"d.zip": zip_of(image_members(4))}), 9)
