"""When schedules are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shoal_core.data.config import parse_config
from shoal_core.data.schedules import next_due
from shoal_core.errors import BadConfig

SATURDAY = datetime(2026, 11, 21, 8, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("rate(1 minute)", "2026-11-21T08:31:15+00:00"),
        ("rate(12 hours)", "2026-11-21T20:30:15+00:00"),
        ("rate(7 days)", "2026-11-28T08:30:15+00:00"),
        ("cron(31 8 * * ? *)", "2026-11-21T08:31:00+00:00"),
        ("cron(30 8 * * ? *)", "2026-11-22T08:30:00+00:00"),
        ("cron(0 6 ? * MON-FRI *)", "2026-11-23T06:00:00+00:00"),
        ("cron(0 6 ? * 1 *)", "2026-11-22T06:00:00+00:00"),
        ("cron(0/20 9-10 * * ? *)", "2026-11-21T09:00:00+00:00"),
        ("cron(0 0 29 FEB ? *)", "2028-02-29T00:00:00+00:00"),
        ("cron(15 10,12 1 */3 ? 2027)", "2027-01-01T10:15:00+00:00"),
    ],
)
def test_it_is_the_next_time(expression: str, due: str) -> None:
    assert next_due(expression, SATURDAY) == due
    assert datetime.fromisoformat(due) - SATURDAY > timedelta(0)


@pytest.mark.parametrize(
    "expression",
    [
        "daily", "rate(0 days)", "rate(1 week)", "cron(0 8 * * ?)", "cron(60 8 * * ? *)", "cron(0 8 L * ? *)",
        "cron(0 8 31 2 ? *)", "cron(0 8 * * ? 2020)", "cron(5-1 8 * * ? *)", "cron(0/0 8 * * ? *)",
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(expression: str) -> None:
    with pytest.raises(BadConfig, match="schedule") as caught:
        parse_config(f"source: {{s3: 's3://lake/a'}}\nschedule: {expression}".encode())
    assert caught.value.fix


def test_a_schedule_needs_a_source() -> None:
    with pytest.raises(BadConfig, match="`schedule` needs `source`"):
        parse_config(b"schedule: rate(1 day)")


@pytest.mark.parametrize(
    "source",
    ["{}", "{s3: 's3://lake/a', dynamodb: things}", "{s3: 'http://x'}", "{s3: 's3://lake/a', segments: 2}",
     "{dynamodb: things, segments: 41}", "{dynamodb: 'a/b/c'}"],
)  # fmt: skip
def test_a_wrong_source_is_refused(source: str) -> None:
    with pytest.raises(BadConfig, match="source"):
        parse_config(f"source: {source}".encode())
