"""A stack whose functions that train have more than one processor: steps that are large enough use all of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.cloud import local_cloud
from tests.e2e.conftest import PENGUINS
from tests.e2e.shards import artifacts_bucket

SETTINGS = b"target: species\nrounds: 2\ntraining: {epochs: 4}\nrecipe: mlp\nnetwork: {hidden: [512, 512]}\n"
TRAIN = ("compute-features", "train-shard", "merge-round", "evaluate-model", "optimize-model")


def test_memory_of_the_stack_is_threads_of_the_run(tmp_path: Path) -> None:
    with local_cloud(tmp_path, parameters="TrainingMemory=3600") as cloud:
        cloud.put("datasets/birds/dataset.yaml", SETTINGS)
        cloud.put("datasets/birds/penguins.csv", PENGUINS)
        run = cloud.succeeded("birds")
        functions = cloud.client("lambda").list_functions()["Functions"]
        memory = {function["FunctionName"]: function["MemorySize"] for function in functions}
        assert {memory[f"shoal-{name}"] for name in TRAIN} == {3600}
        assert memory["shoal-start-training"] == 1769
        key = f"runs/{run['run_id']}/settings.json"
        settings = cloud.client("s3").get_object(Bucket=artifacts_bucket(cloud), Key=key)["Body"].read()
        assert json.loads(settings)["threads"] == 2
