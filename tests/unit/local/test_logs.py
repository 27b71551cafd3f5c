from moto.logs.models import logs_backends

from shoal.local.compute.spec import LogRecord
from shoal.local.logs import LogCollector

ACCOUNT, REGION, GROUP = "123456789012", "us-east-1", "/aws/lambda/logged"


def record(n, stream="s"):
    return LogRecord(GROUP, stream, 1_795_249_875_000 + n, f"line {n}", None, "logged")


def test_records_reach_the_api_the_file_and_the_follower_and_old_ones_go(tmp_path):
    backend = logs_backends[ACCOUNT][REGION]
    seen = []
    collector = LogCollector(tmp_path, ACCOUNT, REGION, events_per_group=5, follow=seen.append)
    try:
        for n in range(8):
            collector.add(record(n, stream="old" if n < 3 else "new"))
        collector.flush()
        streams = backend.groups[GROUP].streams
        assert [event.message for stream in streams.values() for event in stream.events] == [
            f"line {n}" for n in range(3, 8)
        ]
        assert (tmp_path / "logged.log").read_text().splitlines() == [f"line {n}" for n in range(8)]
        assert [each.message for each in seen] == [f"line {n}" for n in range(8)]
    finally:
        backend.groups.pop(GROUP, None)


def test_what_waits_is_written_at_the_stop(tmp_path):
    collector = LogCollector(tmp_path, ACCOUNT, REGION)
    collector.start()
    collector.add(record(1))
    collector.stop()
    logs_backends[ACCOUNT][REGION].groups.pop(GROUP, None)
    assert (tmp_path / "logged.log").read_text() == "line 1\n"
