"""The table's operations where DynamoDB refuses: taken keys, cancelled transactions, keys that it can't hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from shoal_core.aws import table as table_module
from shoal_core.aws.table import MAX_PK_BYTES, Table
from shoal_core.errors import Unavailable
from tests.support.aws import stack

ITEM = {"pk": "RUN#a", "sk": "RUN"}


class CancellingClient:
    """DynamoDB that cancels every transaction for the given reasons."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons

    def transact_write_items(self, **_: Any) -> None:
        raise ClientError(
            {
                "Error": {"Code": "TransactionCanceledException", "Message": "cancelled"},
                "CancellationReasons": [{"Code": reason} for reason in self.reasons],  # type: ignore[typeddict-unknown-key]
            },
            "TransactWriteItems",
        )


@pytest.fixture
def table() -> Iterator[Table]:
    with stack():
        yield Table()


def test_a_taken_key_is_told(table: Table) -> None:
    assert table.put_new(ITEM)
    assert not table.put_new(ITEM)


@pytest.mark.parametrize("reason", ["TransactionConflict", "ThrottlingError"])
def test_a_transaction_cancelled_for_another_reason_is_no_taken_key(
    table: Table, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(table_module, "client", lambda service: CancellingClient("None", reason))
    with pytest.raises(Unavailable, match=reason):
        table.put_all_new([ITEM, ITEM])


def test_a_failed_condition_outweighs_a_conflict(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelling = CancellingClient("TransactionConflict", "ConditionalCheckFailed")
    monkeypatch.setattr(table_module, "client", lambda service: cancelling)
    assert not table.put_all_new([ITEM, ITEM])


def test_nothing_is_kept_under_a_key_that_dynamodb_cant_hold(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "client", lambda service: pytest.fail("DynamoDB would refuse the request."))
    name = "é" * (MAX_PK_BYTES // 2) + "x"
    assert table.get(name, "MODEL") is None
    assert list(table.query(name)) == []
