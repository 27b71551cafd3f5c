"""DynamoDB on disk: the items that a finished request touched, read back from moto, and given to moto at the start."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import Table

from shoal.local.state import StateStore, dump

Attributes = dict[str, Any]
Stored = Any  # moto's attribute values, and what JSON makes of them
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}
STATEMENTS = {"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"}
_TRANSACTION_ACTIONS = {"Put": "Item", "Update": "Key", "Delete": "Key"}


class TableState:
    """Keeps DynamoDB's items in a `StateStore`; the tables themselves come from the template."""

    def __init__(self, store: StateStore, account: str, region: str) -> None:
        self._store = store
        self._account, self._region = account, region

    @property
    def _backend(self) -> DynamoDBBackend:
        return dynamodb_backends[self._account][self._region]

    def record(self, operation: str, request: Attributes) -> None:
        """Keep what a successful write changed; `request` is its JSON."""
        if operation in STATEMENTS:
            for name in list(self._backend.tables):
                self._record_all(name)
        elif operation == "DeleteTable":
            with self._store.transaction() as db:
                db.execute("DELETE FROM items WHERE tablename = ?", (_table_name(request["TableName"]),))
        elif operation in WRITES:
            with self._store.transaction():
                for table, attributes in touched(operation, request):
                    self._record_item(_table_name(table), attributes)

    def _record_item(self, name: str, attributes: Attributes) -> None:
        table = self._backend.get_table(name)
        key = _key_of(table, attributes)
        parts = [DynamoType(key[part]) for part in _key_names(table)]
        item = table.get_item(parts[0], parts[1] if len(parts) > 1 else None)
        with self._store.transaction() as db:
            if item is None:
                db.execute("DELETE FROM items WHERE tablename = ? AND key = ?", (name, dump(key)))
            else:
                db.execute("INSERT OR REPLACE INTO items VALUES(?, ?, ?)", (name, dump(key), item_text(item)))

    def _record_all(self, name: str) -> None:
        table = self._backend.get_table(name)
        with self._store.transaction() as db:
            db.execute("DELETE FROM items WHERE tablename = ?", (name,))
            for item in table.all_items():
                text = item_text(item)
                db.execute("INSERT INTO items VALUES(?, ?, ?)", (name, dump(_key_of(table, json.loads(text))), text))

    def restore(self) -> int:
        """Give moto the items of every table that exists; returns how many."""
        count = 0
        for name in list(self._backend.tables):
            table = self._backend.get_table(name)
            for row in self._store.rows("SELECT item FROM items WHERE tablename = ?", name):
                table.put_item(json.loads(row["item"]), overwrite=True)
                count += 1
        return count


def touched(operation: str, request: Attributes) -> Iterator[tuple[str, Attributes]]:
    """Table and attributes, with at least the key's, of every item that a write names."""
    if operation == "BatchWriteItem":
        for table, entries in request.get("RequestItems", {}).items():
            for entry in entries:
                yield table, entry["PutRequest"]["Item"] if "PutRequest" in entry else entry["DeleteRequest"]["Key"]
    elif operation == "TransactWriteItems":
        for entry in request.get("TransactItems", []):
            for action, field in _TRANSACTION_ACTIONS.items():
                if action in entry:
                    yield entry[action]["TableName"], entry[action][field]
    else:
        yield request["TableName"], request["Item" if operation == "PutItem" else "Key"]


def _table_name(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _key_names(table: Table) -> list[str]:
    return [table.hash_key_attr, *([table.range_key_attr] if table.range_key_attr else [])]


def _key_of(table: Table, attributes: Attributes) -> Attributes:
    return {name: attributes[name] for name in _key_names(table)}


def item_text(item: Item) -> str:
    """JSON of an item, binary values in base64 as on the wire."""
    return dump({name: _plain(value) for name, value in item.attrs.items()})


def _plain(value: Stored) -> Stored:
    if isinstance(value, DynamoType):
        return {value.type: _plain(value.value)}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
