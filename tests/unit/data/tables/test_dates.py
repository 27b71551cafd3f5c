import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.spec import DateColumn, PreprocessingSpec, TableInput, TargetSpec
from shoal_core.data.tables.cells import NO_INSTANT
from shoal_core.data.tables.dates import DAY, date_features, feature_values, parse_date
from shoal_core.errors import BadTable

NOON = (datetime.date(2026, 1, 31).toordinal() - datetime.date(1970, 1, 1).toordinal()) * DAY + DAY // 2


@pytest.mark.parametrize(
    ("value", "order", "unit", "expected"),
    [
        ("2026-01-31T12:00:00Z", None, None, NOON),
        (" 2026-01-31 12:00 ", None, None, NOON),
        ("2026-01-31T14:00:00+02:00", None, None, NOON),
        ("2026-01-31T06:30:00.000000-0530", None, None, NOON),
        ("2026/01/31 12:00:00,5", None, None, NOON + 500_000),
        ("31/1/2026 12:00", "day", None, NOON),
        ("1/31/2026 12:00", "month", None, NOON),
        ("31.01.2026T12:00:00UTC", "day", None, NOON),
        (NOON / 1e6, None, "s", NOON),
        (str(NOON // 1000), None, "ms", NOON),
        (None, None, None, None),
        ("NA", "day", None, None),
    ],
)
def test_dates(value, order, unit, expected):
    assert parse_date(value, order, unit) == expected


@pytest.mark.parametrize(
    "value", ["2026-02-30", "20260131", "2026-W01-1", "31/1/2026", "2026-01-31T24:00", "x", 5, True, "2026-1-1", ["a"]]
)
def test_what_is_no_date(value):
    with pytest.raises(ValueError, match="isn't"):
        parse_date(value)


def test_a_number_beyond_the_calendar():
    with pytest.raises(ValueError, match="9999"):
        parse_date(1e18, None, "s")


@given(st.datetimes())
def test_an_instant_is_what_the_standard_library_says(value):
    epoch = datetime.datetime(1970, 1, 1)
    assert parse_date(value.isoformat()) == (value - epoch) // datetime.timedelta(microseconds=1)


@given(st.datetimes())
def test_features_are_those_of_the_calendar(value):
    instants = np.array([parse_date(value.isoformat())], np.int64)
    assert feature_values(instants, "weekday")[0] == value.weekday() / 7
    assert feature_values(instants, "month")[0] == (value.month - 1) / 12
    assert feature_values(instants, "day")[0] == (value.day - 1) / 31
    hours = value.hour + value.minute / 60 + value.second / 3600 + value.microsecond / 3.6e9
    np.testing.assert_allclose(feature_values(instants, "hour")[0], hours / 24, atol=1e-12)


def test_missing_instants_are_missing_numbers():
    found = date_features(np.array([NOON, NO_INSTANT], np.int64), ("elapsed", "hour"))
    np.testing.assert_allclose(found[0], [NOON / DAY, 0, -1], atol=1e-6)
    assert np.isnan(found[1]).all() and found.dtype == np.float32


def test_a_wrong_date_is_named():
    table = TableInput(dates=(DateColumn(name="at", features=("elapsed",)),))
    spec = PreprocessingSpec(kind="table", table=table, target=TargetSpec(task="regression", column="y", kind="number"))
    assert spec.encode_rows([{"at": "2026-01-31T12:00:00Z"}])["numbers"][0, 0] == np.float32(NOON / DAY)
    with pytest.raises(BadTable, match="Row 1, column 'at': 'soon': it isn't a date"):
        spec.encode_rows([{"at": "soon"}])
