"""The audit record in the table: one chain, whoever writes, and each change once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shoal_core.aws import table as table_module
from shoal_core.aws.audit import Audit
from shoal_core.aws.table import document, encode, update_arguments
from shoal_core.registry.audit import verify
from tests.support.aws import stack
from tests.unit.aws.test_catalog import OneAtATime


@pytest.fixture
def audit() -> Iterator[Audit]:
    with stack():
        yield Audit()


def test_entries_come_in_order_and_from_any_number_on(audit: Audit) -> None:
    for number in range(1, 4):
        audit.record("token.created", f"t{number}", "root", "127.0.0.1", {"number": number})
    assert [entry.subject for entry in audit.entries()] == ["t1", "t2", "t3"]
    assert [entry.number for entry in audit.entries(after=2)] == [3]
    assert verify(audit.entries()).valid


def test_the_same_change_is_recorded_once(audit: Audit) -> None:
    first = audit.record("model.registered", "digits/1", "run:a", once="model digits/1")
    assert first is not None
    assert audit.record("model.registered", "digits/1", "run:a", once="model digits/1") is None
    assert [entry.number for entry in audit.entries()] == [1]


def test_writers_at_once_make_one_chain(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    client = OneAtATime(table_module.client("dynamodb"))
    with monkeypatch.context() as patch, ThreadPoolExecutor(8) as pool:
        patch.setattr(table_module, "client", lambda service: client)
        list(pool.map(lambda number: audit.record("token.created", f"t{number}", "root"), range(24)))
    found = verify(audit.entries())
    assert (found.valid, found.entries) == (True, 24)
    assert {entry.subject for entry in audit.entries()} == {f"t{number}" for number in range(24)}


def test_a_change_in_the_table_shows(audit: Audit) -> None:
    for number in range(3):
        audit.record("token.created", f"t{number}", "root")
    second = list(audit.entries())[1].model_copy(update={"who": "somebody else"})
    item = {"pk": "AUDIT", "sk": "000000000002", "document": document(second.model_dump(mode="json"))}
    table = table_module.Table()
    table_module.client("dynamodb").put_item(TableName=table.name, Item=encode(item))
    assert verify(audit.entries()).broken_at == 2


def test_an_entry_and_what_it_tells_of_are_one_transaction(audit: Audit) -> None:
    def step(seen: int) -> dict[str, Any]:
        values = {":seen": seen, ":next": seen + 1}
        condition = "revision = :seen" if seen else "attribute_not_exists(revision) AND :seen = :seen"
        return update_arguments("MODEL#m", "MODEL", "SET revision = :next", values, condition)

    assert audit.record_with([step(0)], "alias.moved", "m/staging", "root")
    assert not audit.record_with([step(0)], "alias.moved", "m/staging", "root")
    assert [entry.subject for entry in audit.entries()] == ["m/staging"]
    assert audit.record_with([step(1)], "alias.moved", "m/other", "root")
    assert verify(audit.entries()).entries == 2
    assert table_module.Table().get("MODEL#m", "MODEL") == {"pk": "MODEL#m", "sk": "MODEL", "revision": 2}
