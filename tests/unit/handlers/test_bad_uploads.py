"""Uploads with something wrong in them, through the handlers of the data path: the rest goes on, the report tells."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from shoal_core.aws.handler import artifacts
from shoal_core.data.report import Report
from shoal_core.keys import DatasetKeys
from tests.e2e.bad_uploads import THROUGH_THE_CLOUD, going_on, require_told
from tests.support.aws import REGION, stack
from tests.support.pipeline import ingest, prepare_data, run_of

CASES = {name: case for name, case in going_on().items() if name not in THROUGH_THE_CLOUD}


@pytest.fixture(scope="module")
def uploads() -> Iterator[None]:
    with stack():
        yield


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("uploads")
def test_the_rest_goes_on_and_the_report_tells_what_was_left_out(name: str) -> None:
    case = CASES[name]
    ((key, data),) = case.files.items()
    full = key if key.startswith("datasets/") else f"datasets/{name}/{key}"
    settings = f"datasets/{name}/dataset.yaml"
    boto3.client("s3", region_name=REGION).put_object(Bucket="uploads", Key=settings, Body=case.config)
    run = run_of(ingest(full, data() if callable(data) else data))
    prepare_data(run)
    report = artifacts().read(DatasetKeys(run["dataset"], run["version"]).report)
    require_told(case, Report.decode(report).model_dump(mode="json"))
