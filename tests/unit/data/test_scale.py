"""The arithmetic of docs/scale.md, and plans of sets whose bytes are generated as they are read."""

import json

from benchmarks.scale import images_request, packed, planned, table_request
from shoal_core.data.assigning import MAX_PACK_ITEMS, SHARD_BYTES
from shoal_core.data.cutting import MAX_ENCODED_BYTES, MAX_ITEMS

PAYLOAD = 256 * 1024
EVENTS_PER_ITEM, EVENTS_PER_MAP, EVENTS_PER_TASK = 7, 3, 5
HISTORY, ROUNDS = 25_000, 20_000


def test_the_maps_leave_training_its_part_of_the_history():
    evaluated = -(-MAX_ITEMS * MAX_ENCODED_BYTES * 15 // 100 // SHARD_BYTES)
    maps = [MAX_ITEMS, MAX_PACK_ITEMS, evaluated]
    events = sum(items * EVENTS_PER_ITEM + EVENTS_PER_MAP for items in maps) + 7 * EVENTS_PER_TASK
    assert events + ROUNDS <= HISTORY


def test_a_maps_list_fits_into_a_states_output():
    assert len(json.dumps([{"item": index} for index in range(MAX_ITEMS)])) < PAYLOAD
    largest = packed(MAX_ITEMS * MAX_ENCODED_BYTES / 1024**3)
    assert largest["pack_items"] <= MAX_PACK_ITEMS and largest["map_payload_bytes"] < PAYLOAD


def test_generated_sets_are_planned():
    table = planned(*table_request(0.005))
    assert table["work_items"] == 4 and table["plan_bytes"] < 20_000
    objects = planned(*images_request(20_000))
    assert 4 <= objects["work_items"] <= MAX_ITEMS and objects["plan_bytes"] < 50_000
