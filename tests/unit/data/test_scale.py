"""The arithmetic of docs/scale.md, and plans of sets whose bytes are generated as they are read."""

import json

import yaml

from benchmarks.scale import assigned, images_request, packed, planned, table_request
from shoal_core.data.assigning import MAX_PACK_ITEMS, SHARD_BYTES
from shoal_core.data.cutting import MAX_ENCODED_BYTES, MAX_ITEMS
from shoal_core.data.map_items import MAX_AT_ONCE
from shoal_core.training.executions import rounds_in_execution
from shoal_core.training.states import MAX_EVALUATION_SHARDS
from tests.support.aws import ROOT

PAYLOAD = 256 * 1024
HISTORY = 25_000
EVENTS = {"item": 7, "inline map": 3, "distributed map": 6, "task": 5, "choice": 2}
# A worker of moto's interpreter goes one level deeper with every item.
RECURSION = 990


def test_the_stages_around_training_leave_it_its_part_of_the_history():
    """The largest set with the default split; `tests/unit/training/test_executions.py` counts retries, too."""
    evaluated = min(MAX_EVALUATION_SHARDS, -(-MAX_ITEMS * MAX_ENCODED_BYTES * 15 // 100 // SHARD_BYTES))
    around = 2 * (EVENTS["distributed map"] + EVENTS["task"] + EVENTS["choice"]) + 7 * EVENTS["task"]
    evaluation = EVENTS["inline map"] + evaluated * EVENTS["item"]
    assert (evaluated, around, evaluation) == (40, 61, 283)
    for workers in (1, 2, 8, 40):
        rounds = rounds_in_execution(workers)
        events = rounds * (workers * EVENTS["item"] + EVENTS["inline map"] + EVENTS["task"] + EVENTS["choice"] + 1)
        assert rounds >= 45 and around + evaluation + events + 900 < HISTORY


def test_a_distributed_maps_lists_and_outputs_fit():
    """Of the parent only a key and a number; of all children together what the Map's own output may hold."""
    definition = yaml.safe_load((ROOT / "statemachines/training.asl.yaml").read_text())
    for name, result in (("Write Shards", {"item": MAX_ITEMS}), ("Pack Shards", {"first": 10_000, "last": 10_004})):
        child = definition["States"][name]["ItemProcessor"]["States"][name.removesuffix("s")]
        assert set(child["ResultSelector"]) == {f"{field}.$" for field in result}
        assert len(json.dumps([result] * MAX_ITEMS)) < PAYLOAD
    largest = packed(MAX_ITEMS * MAX_ENCODED_BYTES / 1024**3)
    assert largest["pack_items"] <= MAX_PACK_ITEMS and largest["items_bytes"] < PAYLOAD
    assert max(MAX_ITEMS, MAX_PACK_ITEMS) < RECURSION and MAX_AT_ONCE <= 1_000


def test_generated_sets_are_planned():
    table = planned(*table_request(0.005))
    assert table["work_items"] == 4 and table["plan_bytes"] < 20_000 and table["state_bytes"] < 1_000
    objects = planned(*images_request(20_000))
    assert 4 <= objects["work_items"] <= MAX_ITEMS and objects["plan_bytes"] < 50_000


def test_the_most_pieces_are_assigned_from_their_indexes():
    found = assigned(MAX_ITEMS)
    assert found["samples"] > 10**7 and found["assignment_bytes"] < 8 * 2**20
