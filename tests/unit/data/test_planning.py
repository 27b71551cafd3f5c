import pytest

from shoal_core.data.config import IMAGE_RECIPES
from shoal_core.data.plan import ObjectSlice, Plan, TableSlice
from shoal_core.errors import BadArchive, BadConfig, BadDataset, BadInput, BadTable, NotFound
from tests.support.stores import MemoryStore
from tests.unit.data.builders import KEYS, Case, csv_of, csv_rows, grey_png, image_members, tar_of, zip_of


def test_an_archive_of_digits():
    plan = Case({"digits v2+é.zip": zip_of(image_members())}).plan()
    assert plan.spec.tensor_shapes() == {"image": (1, 8, 8)}
    assert plan.spec.target.classes == ("0", "1", "9", "10")
    assert plan.root == "digits"
    assert plan.inferred == ("channels", "image_size", "target", "task")
    assert len(plan.items) == 4
    assert [(item.first, item.last) for item in plan.items] == [(0, 40), (40, 80), (80, 120), (120, 160)]


def test_the_plan_is_written_once():
    case = Case({"d.zip": zip_of(image_members(10))})
    first = case.plan()
    before = case.artifacts.objects[KEYS.plan]
    case.uploads.objects.clear()
    assert case.plan() == first == Plan.decode(before)


def test_tar_slices_know_where_to_start():
    plan = Case({"d.tar": tar_of(image_members())}).plan()
    assert [item.offset > 0 for item in plan.items] == [False, True, True, True]


def test_workers_make_more_items():
    assert len(Case({"d.zip": zip_of(image_members(80))}, workers=4).plan().items) == 8
    assert len(Case({"d.zip": zip_of(image_members(8))}, workers=4).plan().items) == 1


def test_image_size_can_be_set():
    plan = Case({"d.zip": zip_of(image_members(4))}, image_size=[16, 12]).plan()
    assert plan.spec.tensor_shapes() == {"image": (1, 16, 12)}
    assert "image_size" not in plan.inferred


def test_loose_files_in_class_folders():
    files = {**image_members(), "dataset.yaml": b"seed: 1", "digits/notes.txt": b"x", ".hidden": b"", "0/": b""}
    plan = Case(files).plan()
    assert all(isinstance(item, ObjectSlice) for item in plan.items) and len(plan.items) == 4
    assert plan.drops.counts == {"not_an_image": 1} and plan.drops.ignored == 1


def test_a_table_is_cut_between_rows():
    data = csv_of(csv_rows(1000))
    plan = Case({"t.csv": data}).plan()
    assert len(plan.items) == 4
    starts = [item.start for item in plan.items if isinstance(item, TableSlice)]
    assert starts[0] == 0 and plan.items[-1].stop == len(data)
    assert all(data[start - 1 : start] == b"\n" for start in starts[1:])
    for item in plan.items:
        assert data[: item.start].count(b"\n") == item.line


def test_refused_members_are_reported_and_the_rest_goes_on():
    members = {
        **image_members(4),
        "../x.png": b"",
        "digits/0/list.csv": b"a",
        "digits/0/in.zip": b"",
        "__MACOSX/1": b"",
    }
    plan = Case({"d.zip": zip_of(members)}).plan()
    assert plan.drops.counts == {"nested_archive": 1, "not_an_image": 1, "unsafe_name": 1}
    assert plan.drops.ignored == 1
    assert {drop.place for drop in plan.drops.examples} == {"../x.png", "digits/0/list.csv", "digits/0/in.zip"}


IMAGE = grey_png(1)


@pytest.mark.parametrize(
    ("files", "error", "reason", "fix"),
    [
        ({}, BadDataset, "has no files", "Upload"),
        ({"d.zip": b""}, BadArchive, "'d.zip' is empty", "again"),
        ({"d.zip": zip_of({})}, BadArchive, "holds no files", "folder per class"),
        ({"d.zip": b"not a zip at all"}, BadArchive, "isn't a zip", "again"),
        ({"d.zip": zip_of(image_members(2))[:-30]}, BadArchive, "damaged", "again"),
        ({"d.zip": zip_of({"1.png": IMAGE, "2.png": IMAGE})}, BadDataset, "no class folders", "folder per class"),
        ({"d.zip": zip_of({"cats/1.png": IMAGE})}, BadDataset, "one class only (all images lie in 'cats')", "dogs"),
        ({"d.zip": zip_of({"1.png": IMAGE, "c/2.png": IMAGE})}, BadDataset, "one class only: 'c'", "folder per class"),
        ({"d.zip": zip_of({"t.csv": b"a,b"})}, BadDataset, "but the table 't.csv'", "Upload the table itself"),
        ({"d.zip": zip_of({"../a/1.png": IMAGE})}, BadDataset, "unsafe name", "relative names"),
        ({"d.zip": zip_of({"a/1.png": b"x", "b/1.png": b"y"})}, BadDataset, "None of the images", "image viewer"),
        ({"d.zip": zip_of({"a/1.pdf": b"x"})}, BadDataset, "holds no images", "PNG"),
        ({"t.csv": b""}, BadTable, "empty", "header"),
        ({"t.csv": b"1,2\n3,4\n"}, BadTable, "no header row", "column names"),
        ({"t.csv": b"a,b\n"}, BadDataset, "no rows", "Add rows"),
        ({"t.csv": b'"a,b\n1,2\n'}, BadDataset, "no rows", "close its quotes"),
        ({"t.csv": b"a,b\n1\n1,2,3\n"}, BadDataset, "line 2: it has 1 cells, the header has 2", "Quote cells"),
        ({"t.jsonl": b"[1]\n[2]\n"}, BadDataset, "line 1: it is a JSON list", "one object per line"),
        ({"d.tar": tar_of({})}, BadArchive, "'d.tar' holds no files", "one folder per class"),
        ({"t.csv.gz": b"x"}, BadTable, "'t.csv.gz' is damaged or not gzip", "Pack it again"),
        ({"t.csv.zst": b"x"}, BadTable, "'t.csv.zst' is damaged or not zstd", "Pack it again"),
        ({"t.parquet": b"x"}, BadTable, "isn't a Parquet file", "again"),
        ({"t.parquet": b"PAR1" * 9}, BadTable, "isn't a Parquet file", "again"),
        ({"t.csv.bz2": b"x"}, BadDataset, "can't be read", "CSV"),
        ({"t.json": b"[1, 2"}, BadTable, "row 2 can't be read as JSON", "array of objects"),
        ({"t.json": b"[1, 2]"}, BadDataset, "row 1: it is a JSON int", "one object per row"),
        ({"t.csv": b"a", "u.csv": b"a"}, BadDataset, "no rows", "Add rows"),
        ({"t.csv": b"a,b\n1,2\n", "u.csv": b"c,d\n1,2\n"}, BadDataset, "no column in common", "one kind"),
        ({"t.csv": b"a,b\n1,2\n", "u.pdf": b"x"}, BadDataset, "'u.pdf' is of a kind", "CSV"),
        ({"t.csv": b"a", "a/1.bin": b"a"}, BadDataset, "1 more files", "tables"),
        ({"x.bin": b"a"}, BadDataset, "no images", "PNG"),
    ],
)
def test_a_bad_upload_is_refused(files, error, reason, fix):
    with pytest.raises(error) as caught:
        Case(files).plan()
    assert reason in caught.value.reason, caught.value.reason
    assert fix in caught.value.fix, caught.value.fix


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("d.zip", {"target": "x"}, "target"),
        ("d.zip", {"task": "regression"}, "task"),
        ("t.csv", {"image_size": 8}, "image_size"),
        *(("t.csv", {"recipe": recipe}, f"recipe: {recipe} needs images") for recipe in sorted(IMAGE_RECIPES)),
    ],
)
def test_settings_of_the_other_kind_are_refused(name, config, reason):
    data = zip_of(image_members(4)) if name == "d.zip" else csv_of(csv_rows(40))
    with pytest.raises(BadConfig, match=reason):
        Case({name: data}, **config).plan()


def test_a_missing_target_column_lists_the_columns():
    with pytest.raises(BadDataset) as caught:
        Case({"t.csv": csv_of(csv_rows(40))}, target="price").plan()
    assert "'price'" in caught.value.reason and "'width', 'height', 'colour', 'label'" in caught.value.fix


def test_no_request():
    from shoal_core.data.planning import plan_dataset

    with pytest.raises(NotFound):
        plan_dataset(MemoryStore(), MemoryStore(), "set", "v1")
    with pytest.raises(BadInput, match="request"):
        plan_dataset(MemoryStore(), MemoryStore({KEYS.request: b"{}"}), "set", "v1")


def test_unusual_names():
    long = "x" * 900
    members = {f"a b+ü/{long}.png": grey_png(1), "ø/1 2.png": grey_png(2), "cafe\u0301/1.png": grey_png(3)}
    loose = Case(members).plan()
    packed = Case({"d.zip": zip_of(members)}).plan()
    assert loose.spec.target.classes == packed.spec.target.classes == ("a b+ü", "café", "ø")
