"""Uploads with something wrong in them, through the handlers of the data path.

What is usable goes on, and the report tells of the rest; what isn't is refused with the reason and the fix.
"""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from shoal_core.aws.handler import artifacts
from shoal_core.data.report import Report
from shoal_core.errors import ShoalError, split_message
from shoal_core.keys import DatasetKeys
from tests.e2e.bad_uploads import (
    PLAN,
    PLANNED_IN_THE_CLOUD,
    THROUGH_THE_CLOUD,
    Content,
    failing,
    going_on,
    require_told,
)
from tests.support.aws import REGION, invoke, stack
from tests.support.pipeline import ingest, prepare_data, run_of

GOING_ON = {name: case for name, case in going_on().items() if name not in THROUGH_THE_CLOUD}
REFUSED = {name: case for name, case in failing().items() if case.stage == PLAN and name not in PLANNED_IN_THE_CLOUD}


@pytest.fixture(scope="module", autouse=True)
def uploads() -> Iterator[None]:
    with stack():
        yield


def ingested(name: str, key: str, data: Content, config: bytes | None) -> dict[str, str]:
    """The run of an upload, with its settings uploaded before it."""
    if config is not None:
        settings = f"datasets/{name}/dataset.yaml"
        boto3.client("s3", region_name=REGION).put_object(Bucket="uploads", Key=settings, Body=config)
    full = key if key.startswith("datasets/") else f"datasets/{name}/{key}"
    return run_of(ingest(full, data() if callable(data) else data))


@pytest.mark.parametrize("name", GOING_ON)
def test_the_rest_goes_on_and_the_report_tells_what_was_left_out(name: str) -> None:
    case = GOING_ON[name]
    ((key, data),) = case.files.items()
    run = ingested(name, key, data, case.config)
    prepare_data(run)
    report = artifacts().read(DatasetKeys(run["dataset"], run["version"]).report)
    require_told(case, Report.decode(report).model_dump(mode="json"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_unusable_is_refused_with_the_reason_and_the_fix(name: str) -> None:
    case = REFUSED[name]
    run = ingested(name, case.key, case.data, case.config)
    with pytest.raises(ShoalError) as caught:
        invoke("plan_shards", run)
    reason, fix = split_message(str(caught.value))
    assert type(caught.value).__name__ == case.error
    assert all(text in reason for text in case.reason), reason
    assert all(text in fix for text in case.fix), fix
