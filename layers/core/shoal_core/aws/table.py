"""The catalog table's few operations, with plain Python values: str, int, set of int; documents as JSON text.

One table holds every record (single-table design): `pk` and `sk` name it, the index `by_kind` lists a kind by `sort`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from shoal_core.aws.clients import client, error_code, service_errors
from shoal_core.aws.config import environment
from shoal_core.errors import Unavailable

# DynamoDB refuses to look for a longer partition key; names come from URLs, and nothing can be kept under such a one.
MAX_PK_BYTES = 2048
_GET_AT_ONCE, _PUT_AT_ONCE = 100, 25
_BATCH_ATTEMPTS = 8
_FIRST_WAIT = 0.05

Value = str | int | set[int]
Item = dict[str, Any]


def document(value: object) -> str:
    """A JSON document as it is kept in an attribute."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _encode(value: Value) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case int():
            return {"N": str(value)}
        case _:
            return {"NS": sorted(map(str, value))}


def _decode(attribute: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a Value
    ((kind, value),) = attribute.items()
    if kind == "N":
        return int(value)
    if kind == "NS":
        return {int(entry) for entry in value}
    return value


def encode(values: Mapping[str, Value]) -> Item:
    """Plain values as DynamoDB attributes."""
    return {name: _encode(value) for name, value in values.items()}


def decode(item: Mapping[str, Any]) -> dict[str, Any]:
    """DynamoDB attributes as plain values."""
    return {name: _decode(attribute) for name, attribute in item.items()}


class Table:
    """The catalog's table."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or environment().table

    def get(self, pk: str, sk: str) -> dict[str, Any] | None:
        """One item, read consistently; None when there is none."""
        if len(pk.encode()) > MAX_PK_BYTES:
            return None
        with service_errors(f"Table {self.name}"):
            answer = client("dynamodb").get_item(
                TableName=self.name, Key=encode({"pk": pk, "sk": sk}), ConsistentRead=True
            )
        return decode(answer["Item"]) if "Item" in answer else None

    def get_all(self, keys: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """Those of many items that are there, read consistently, in no order."""
        for start in range(0, len(keys), _GET_AT_ONCE):
            part = [encode({"pk": pk, "sk": sk}) for pk, sk in keys[start : start + _GET_AT_ONCE]]
            for answer in self._until_done(
                "batch_get_item", "UnprocessedKeys", {self.name: {"Keys": part, "ConsistentRead": True}}
            ):
                yield from map(decode, answer["Responses"].get(self.name, ()))

    def put_all(self, items: Iterable[Mapping[str, Value]]) -> None:
        """Write or overwrite many items, each on its own."""
        puts = [{"PutRequest": {"Item": encode(item)}} for item in items]
        for start in range(0, len(puts), _PUT_AT_ONCE):
            part = puts[start : start + _PUT_AT_ONCE]
            list(self._until_done("batch_write_item", "UnprocessedItems", {self.name: part}))

    def _until_done(self, operation: str, unprocessed: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers of a batch operation, asked again for what was left over. Raises `Unavailable`."""
        for attempt in range(_BATCH_ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0.5, 1) * _FIRST_WAIT * 2**attempt)
            with service_errors(f"Table {self.name}"):
                answer: dict[str, Any] = getattr(client("dynamodb"), operation)(RequestItems=wanted)
            yield answer
            wanted = answer.get(unprocessed) or {}
            if not wanted:
                return
        raise Unavailable(f"Table {self.name} is throttled.", "Nothing to do: it is retried.")

    def query(self, pk: str, first: str = "") -> Iterator[dict[str, Any]]:
        """Items of one partition in order of `sk`, from `first` on."""
        if len(pk.encode()) > MAX_PK_BYTES:
            return
        condition, values = "pk = :pk", {":pk": pk}
        if first:
            condition, values = condition + " AND sk >= :first", {**values, ":first": first}
        yield from self._pages(KeyConditionExpression=condition, values=values, ConsistentRead=True)

    def newest(self, kind: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Items of one kind, in descending order of `sort`. Eventually consistent, as every global index is."""
        found = self._pages(
            IndexName="by_kind", KeyConditionExpression="kind = :kind", values={":kind": kind}, ScanIndexForward=False
        )
        for number, item in enumerate(found):
            if limit is not None and number >= limit:
                return
            yield item

    def _pages(self, values: Mapping[str, Value], **arguments: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
        with service_errors(f"Table {self.name}"):
            pages = (
                client("dynamodb")
                .get_paginator("query")
                .paginate(TableName=self.name, ExpressionAttributeValues=encode(values), **arguments)
            )
            for page in pages:
                yield from map(decode, page["Items"])

    def put_new(self, item: Mapping[str, Value]) -> bool:
        """Write an item unless its key is taken; False when it is."""
        return self.put_all_new([item])

    def put_all_new(self, items: Sequence[Mapping[str, Value]], *updates: Item) -> bool:
        """Write items and apply `updates` in one transaction; False when a key is taken or an update's condition fails.

        Raises:
            Unavailable: DynamoDB cancelled the transaction for another reason, such as one that was under way on the
                same items. That says nothing about the conditions.
        """
        puts: list[Item] = [
            {
                "Put": {
                    "TableName": self.name,
                    "Item": encode(item),
                    "ConditionExpression": "attribute_not_exists(pk)",
                }
            }
            for item in items
        ]
        changes = [{"Update": {"TableName": self.name, **update}} for update in updates]
        try:
            with service_errors(f"Table {self.name}"):
                client("dynamodb").transact_write_items(TransactItems=[*puts, *changes])
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                raise
            reasons = {reason.get("Code", "None") for reason in error.response.get("CancellationReasons", ())}
            if "ConditionalCheckFailed" in reasons:
                return False
            raise Unavailable(
                f"Table {self.name} cancelled a transaction: {', '.join(sorted(reasons - {'None'}))}.",
                "Nothing to do: it is retried.",
            ) from error
        return True

    def update(
        self,
        pk: str,
        sk: str,
        expression: str,
        values: Mapping[str, Value],
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> bool:
        """Apply an update expression; False when its condition doesn't hold."""
        arguments = update_arguments(pk, sk, expression, values, condition, names)
        try:
            with service_errors(f"Table {self.name}"):
                client("dynamodb").update_item(TableName=self.name, **arguments)
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True


def update_arguments(
    pk: str,
    sk: str,
    expression: str,
    values: Mapping[str, Value],
    condition: str | None = None,
    names: Mapping[str, str] | None = None,
) -> Item:
    """The arguments of one UpdateItem, alone or in a transaction."""
    arguments: Item = {
        "Key": encode({"pk": pk, "sk": sk}),
        "UpdateExpression": expression,
        "ExpressionAttributeValues": encode(values),
    }
    if condition:
        arguments["ConditionExpression"] = condition
    if names:
        arguments["ExpressionAttributeNames"] = dict(names)
    return arguments
