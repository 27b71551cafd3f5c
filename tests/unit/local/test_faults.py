import pytest

from shoal.local.faults import EventFaults, FaultPlan, parse_faults
from shoal_core.errors import BadConfig


def test_settings():
    assert parse_faults("") == EventFaults()
    assert parse_faults("duplicate-s3-events=0.5; delay-s3-events=0.2;seed=1") == EventFaults(0.5, 0.2, 1)
    assert parse_faults("schedule-period=2") == EventFaults(schedule_period=2.0)
    assert not parse_faults("schedule-period=2").any


@pytest.mark.parametrize("text", ["lose-s3-events=1", "seed=x"])
def test_bad_settings_are_named(text):
    with pytest.raises(BadConfig, match=text.split("=")[0]):
        parse_faults(text)


def test_the_same_seed_draws_the_same_deliveries():
    plans = [FaultPlan(EventFaults(0.5, 0.1, 7)) for _ in range(2)]
    drawn = [[plan.deliveries() for _ in range(50)] for plan in plans]
    assert drawn[0] == drawn[1]
    assert {len(waits) for waits in drawn[0]} == {1, 2}
    assert all(0 <= wait <= 0.1 for waits in drawn[0] for wait in waits)
    assert FaultPlan(EventFaults()).deliveries() == [0.0]
