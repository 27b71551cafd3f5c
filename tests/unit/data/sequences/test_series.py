"""Windows of time series against a plain reference, however rows are ordered, formatted and cut."""

import json
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal_core.data.pieces import decode_piece
from shoal_core.data.sequences import series
from shoal_core.data.writing import write_shard
from shoal_core.errors import BadConfig, BadDataset
from tests.unit.data.builders import Case, jsonl_of

SEQUENCE = {"time": "day", "id": "shop", "window": 4}


def rows_of(shops: int, days: int, seed: int = 0) -> list[dict[str, object]]:
    generator = random.Random(seed)
    return [
        {
            "shop": f"shop{shop}",
            "day": f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}",
            "sold": generator.randint(0, 99),
            "rain": generator.random() < 0.3,
            "price": None if generator.random() < 0.1 else round(generator.uniform(1, 9), 2),
            "kind": generator.choice(["a", "b"]),
            "label": generator.choice(["up", "down"]),
        }
        for shop in range(shops)
        for day in range(days)
    ]


def csv_of(rows: list[dict[str, object]]) -> bytes:
    names = list(rows[0])
    lines = [",".join(names)]
    for row in rows:
        lines.append(",".join("" if row[name] is None else str(row[name]) for name in names))
    return ("\n".join(lines) + "\n").encode()


def case_of(rows, *, kind="csv", split=None, target="label", task=None, workers=None, **sequence) -> Case:
    data = csv_of(rows) if kind == "csv" else jsonl_of(rows)
    config = {"sequence": SEQUENCE | sequence, "target": target}
    config |= {name: value for name, value in (("split", split), ("task", task), ("workers", workers)) if value}
    return Case({f"t.{kind}": data}, **config)


def encode(case: Case) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    parts, drops = [], {}
    for item in range(len(case.plan().items)):
        index = write_shard(case.uploads, case.artifacts, "set", "v1", item)
        for code, count in index.drops.counts.items():
            drops[code] = drops.get(code, 0) + count
        if index.file is not None:
            parts.append(decode_piece(case.artifacts.read(index.file.key), index.layout))
    return ({name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}), drops


def as_samples(found: dict[str, np.ndarray]) -> list[tuple]:
    return sorted(
        zip(map(bytes, found["row_hash"]), map(bytes, found["sequence"]), map(bytes, found["target"]), strict=True)
    )


def number(value: object) -> float:
    return np.nan if value is None else float(value)


def reference(rows, inputs, target, window=4, stride=1, horizon=0) -> list[tuple]:
    """(window, target) of every series, one row after the other."""
    found = []
    for shop in {row["shop"] for row in rows}:
        own = sorted((row for row in rows if row["shop"] == shop), key=lambda row: row["day"])
        for start in range(0, len(own) - window - horizon + 1, stride):
            part = [[number(row[name]) for name in inputs] for row in own[start : start + window]]
            found.append((np.array(part, np.float32).tobytes(), target(own[start + window - 1 + horizon])))
    return sorted(found)


@pytest.mark.parametrize(("stride", "horizon"), [(1, 0), (3, 0), (1, 2), (5, 3)])
def test_windows_and_targets_are_those_of_a_plain_loop(stride, horizon):
    rows = rows_of(25, 30)
    random.Random(5).shuffle(rows)
    found, drops = encode(case_of(rows, stride=stride, horizon=horizon))
    expected = reference(rows, ["sold", "rain", "price"], lambda row: int(row["label"] == "up"), 4, stride, horizon)
    samples = zip(map(bytes, found["sequence"]), found["target"].tolist(), strict=True)
    assert sorted(samples) == expected and not drops


def test_the_targets_past_is_an_input_when_it_lies_ahead():
    rows = rows_of(25, 20)
    ahead = case_of(rows, target="sold", horizon=1, task="regression")
    assert ahead.plan().spec.sequence.number_names == ("sold", "rain", "price")
    found, _ = encode(ahead)
    expected = reference(rows, ["sold", "rain", "price"], lambda row: float(row["sold"]), horizon=1)
    assert sorted(zip(map(bytes, found["sequence"]), found["target"].tolist(), strict=True)) == expected
    now = case_of(rows, target="sold", task="regression").plan()
    assert now.spec.sequence.number_names == ("rain", "price")


def test_the_plan_tells_what_becomes_of_each_column():
    plan = case_of(rows_of(25, 30)).plan()
    assert plan.spec.kind == "sequence" and plan.spec.tensor_shapes() == {"sequence": (4, 3), "categories": (4, 1)}
    roles = {column.name: column.role for column in plan.columns}
    assert roles == {
        "shop": "group",
        "day": "time",
        "sold": "number",
        "rain": "number",
        "price": "number",
        "kind": "category",
        "label": "target",
    }
    assert plan.spec.sequence.categories[0].categories == ("a", "b") and not plan.spec.sequence.ignored


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1000), st.sampled_from(["csv", "jsonl"]), st.integers(1, 8))
def test_neither_order_format_nor_cut_changes_a_sample(seed, kind, workers):
    rows = rows_of(22, 12, seed=3)
    expected = as_samples(encode(case_of(rows))[0])
    random.Random(seed).shuffle(rows)
    assert as_samples(encode(case_of(rows, kind=kind, workers=workers))[0]) == expected


def test_rows_of_an_id_may_lie_in_any_file():
    rows = rows_of(22, 12, seed=3)
    expected = as_samples(encode(case_of(rows))[0])
    random.Random(8).shuffle(rows)
    files = {"a/1.csv": csv_of(rows[:100]), "a/2.csv": csv_of(rows[100:101]), "b/3.jsonl": jsonl_of(rows[101:])}
    case = Case(files, sequence=SEQUENCE, target="label")
    found, drops = encode(case)
    assert as_samples(found) == expected and not drops


def test_a_series_is_shared_by_items_that_each_cut_a_part(monkeypatch):
    rows = [row for row in rows_of(1, 300) if row["shop"] == "shop0"]
    for index, row in enumerate(rows):
        row["day"] = index
    whole = case_of(rows)
    expected = as_samples(encode(whole)[0])
    monkeypatch.setattr("shoal_core.data.sequences.planning.ENCODED_BYTES", 1000)
    shared = case_of(rows)
    assert len(shared.plan().items) > 4 > len(whole.plan().items)
    assert as_samples(encode(shared)[0]) == expected


def test_series_are_shared_by_no_more_items_than_there_may_be(monkeypatch):
    rows = rows_of(3, 100)
    expected = as_samples(encode(case_of(rows))[0])
    window_bytes = 80  # four rows of three numbers and a category
    planning = "shoal_core.data.sequences.planning"
    monkeypatch.setattr(f"{planning}.ENCODED_BYTES", 300 * window_bytes // 8 + 1)
    assert len(case_of(rows).plan().items) > 4
    monkeypatch.setattr(f"{planning}.MAX_ITEMS", 4)
    shared = case_of(rows)
    assert len(shared.plan().items) <= 4
    assert as_samples(encode(shared)[0]) == expected


def test_all_windows_of_an_id_are_on_one_side():
    case = case_of(rows_of(60, 20))
    assert case.plan().config.split.group == "shop" and "split.group" in case.plan().inferred
    manifest = case.run()
    found = encode(case)[0]
    groups = dict(zip(map(bytes, found["row_hash"]), map(bytes, found["group"]), strict=True))
    assert len(set(groups.values())) == 60
    rows = {row["sold"]: row["shop"] for row in rows_of(60, 20)}
    assert rows and min(manifest.samples.values()) > 0
    sides: dict[bytes, set[str]] = {}
    by_window = {bytes(window): bytes(group) for window, group in zip(found["sequence"], found["group"], strict=True)}
    for split in ("train", "validation", "test"):
        for window in case.tensors(manifest, split)["sequence"]:
            sides.setdefault(by_window[bytes(window)], set()).add(split)
    assert all(len(side) == 1 for side in sides.values()) and len(sides) == 60


@pytest.mark.parametrize(("stride", "horizon"), [(1, 0), (2, 3)])
def test_by_time_no_row_of_one_split_is_seen_in_another(stride, horizon):
    rows = [{"day": day, "value": float(day), "other": 1000.0 + day * day} for day in range(400)]
    case = Case(
        {"t.csv": csv_of(rows)},
        sequence={"time": "day", "window": 8, "stride": stride, "horizon": horizon},
        target="other",
        task="regression",
    )
    assert case.plan().config.split.time == "day" and "split.time" in case.plan().inferred
    manifest = case.run()
    seen = {}
    for split in ("train", "validation", "test"):
        tensors = case.tensors(manifest, split)
        days = tensors["sequence"][:, :, 0].astype(int)
        targets = np.sqrt(tensors["target"] - 1000).round().astype(int)
        assert (targets == days[:, -1] + horizon).all()
        seen[split] = set(days.ravel().tolist()) | set(targets.tolist())
    assert max(seen["train"]) < min(seen["validation"]) and max(seen["validation"]) < min(seen["test"])
    assert min(len(seen[split]) for split in ("validation", "test")) >= 40
    dropped = case.report.drops.counts["crosses_splits"]
    assert dropped == -(-(7 + horizon) // stride) * 2 or dropped <= 2 * (7 + horizon)


def test_splits_too_short_for_a_window_are_widened():
    rows = [{"day": day, "value": day * 1.37, "label": "ab"[day % 2]} for day in range(40)]
    case = Case({"t.csv": csv_of(rows)}, sequence={"time": "day", "window": 8}, target="label")
    assert min(case.run().samples.values()) >= 1
    short = Case({"t.csv": csv_of(rows[:20])}, sequence={"time": "day", "window": 8}, target="label")
    with pytest.raises(BadDataset, match="too short"):
        short.plan()
    free = Case(
        {"t.csv": csv_of(rows[:20])},
        sequence={"time": "day", "window": 8},
        target="label",
        split={"validation": 0, "test": 0},
    )
    assert free.run().samples == {"train": 13, "validation": 0, "test": 0}


def test_what_is_left_out_is_counted_with_a_reason():
    rows = rows_of(22, 10)
    rows += [{**rows[0], "shop": "brief", "day": f"2026-05-{day:02d}"} for day in range(1, 4)]
    rows += [dict(rows[5]), dict(rows[5])]
    rows.append({**rows[0], "day": "yesterday"})
    rows.append({**rows[0], "day": None})
    rows.append({**rows[0], "shop": None})
    rows.append({**rows[0], "sold": "many", "day": "2026-06-01"})
    rows[219]["label"] = None
    for workers in (1, 4):
        found, drops = encode(case_of(rows, workers=workers))
        assert drops == {
            "bad_value": 2,
            "missing_time": 1,
            "missing_id": 1,
            "short_series": 1,
            "duplicate_row": 2,
            "missing_target": 1,
        }
        assert len(found["target"]) == 22 * 7 - 1


def test_ties_in_time_keep_the_order_of_the_rows():
    rows = [
        {"shop": f"s{shop}", "day": day // 2, "value": float(day), "label": "ab"[day % 2]}
        for shop in range(20)
        for day in range(12)
    ]
    found, drops = encode(Case({"t.csv": csv_of(rows)}, sequence=SEQUENCE, target="label"))
    assert not drops and (np.diff(found["sequence"][:, :, 0], axis=1) == 1).all()


def test_missing_numbers_stay_and_booleans_are_numbers():
    rows = rows_of(20, 8)
    for row in rows:
        row["rain"] = str(row["rain"]).lower()
    found, _ = encode(case_of(rows))
    assert np.isnan(found["sequence"][:, :, 2]).any() and set(np.unique(found["sequence"][:, :, 1])) == {0.0, 1.0}


def test_killed_calls_end_in_the_same_bytes():
    case = case_of(rows_of(25, 20), workers=3)
    encode(case)
    before = dict(case.artifacts.objects)
    for key in [key for key in before if "/pieces/" in key]:
        del case.artifacts.objects[key]
    encode(case)
    assert case.artifacts.objects == before


def test_ids_of_one_meaning_are_one_series():
    rows = [
        {"shop": shop, "day": day, "value": day * 1.5, "label": "ab"[day % 2]} for shop in range(20) for day in range(6)
    ]
    text = "".join(json.dumps({**row, "shop": float(row["shop"])}) + "\n" for row in rows)
    whole = encode(Case({"t.csv": csv_of(rows)}, sequence=SEQUENCE, target="label"))[0]
    floats = encode(Case({"t.jsonl": text.encode()}, sequence=SEQUENCE, target="label"))[0]
    assert as_samples(whole) == as_samples(floats) and series.BUCKETS == 4096


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sequence": {"time": "when"}}, "sequence.time"),
        ({"sequence": {"time": "day", "id": "who"}}, "sequence.id"),
        ({"sequence": {"time": "day", "id": "day"}}, "one column"),
        ({"sequence": {"time": "kind"}}, "neither dates nor numbers"),
        ({"target": "day"}, "target"),
        ({"split": {"group": "kind"}}, "split.group"),
        ({"split": {"time": "sold"}}, "split.time"),
        ({"task": "multilabel"}, "task"),
    ],
)
def test_settings_that_windows_do_not_allow(change, match):
    config = {"sequence": SEQUENCE, "target": "label"} | change
    with pytest.raises(BadConfig, match=match) as found:
        Case({"t.csv": csv_of(rows_of(20, 8))}, **config).plan()
    assert found.value.fix


def test_windows_beyond_all_bounds_are_refused(monkeypatch):
    monkeypatch.setattr("shoal_core.data.sequences.planning.MAX_ITEM_CELLS", 100)
    with pytest.raises(BadDataset, match="too many to be read at once"):
        case_of(rows_of(20, 40), workers=1).plan()
    monkeypatch.setattr("shoal_core.data.sequences.planning.ENCODED_BYTES", 10)
    with pytest.raises(BadDataset, match="windows of") as found:
        case_of(rows_of(20, 40)).plan()
    assert "stride" in found.value.fix


def test_no_input_is_left():
    rows = [{"day": day, "label": "ab"[day % 2]} for day in range(60)]
    with pytest.raises(BadDataset, match="look back"):
        Case({"t.csv": csv_of(rows)}, sequence={"time": "day"}, target="label").plan()
