"""What a record asks: which model, which version, and what to predict.

A record is a JSON object:

```
{"model": "digits", "version": 3, "id": "order-17", "row": {"x": 1}}
```
`model` is needed; `version` is a number (the one in production when left out); `id` comes back with the answer (the
record's position when left out). What to predict is one of `row` (a table's row), `image` (a file as base64), `text`,
`rows` (a window of rows, oldest first) and `instances` (a list, as in POST /models/NAME/predict).

Bytes that aren't a JSON object are one image or text as it is; the partition key then names the model: `MODEL/KEY`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shoal_core.data.spec import PreprocessingSpec
from shoal_core.errors import BadRequest, TooLarge
from shoal_core.serving.prediction import MAX_INSTANCES, raw_instance, text_instance

MAX_ID_CHARACTERS = 256
_SHORT = ("row", "image", "text", "rows")
_PAYLOADS = (*_SHORT, "instances")
_FIELDS = frozenset({"model", "version", "id", *_PAYLOADS})
_EXAMPLE = 'Send JSON such as {"model": "NAME", "id": "1", "row": {"COLUMN": VALUE}}.'


@dataclass(frozen=True)
class Question:
    """One record's question.

    Attributes:
        model: Name of the model.
        version: Number of the version as text; None is the one in production.
        id: What the answer is called.
        payload: JSON of what to predict (one of `row`, `image`, `text`, `rows`, `instances`), or bytes.
    """

    model: str
    version: str | None
    id: str
    payload: Mapping[str, Any] | bytes = field(repr=False)

    def instances(self, spec: PreprocessingSpec) -> list[dict[str, Any]]:
        """What to predict, as instances of a model with this spec.

        Raises:
            BadInput: It isn't what the model takes.
        """
        if isinstance(self.payload, bytes):
            return [raw_instance(spec, self.payload)]
        ((name, value),) = self.payload.items()
        if name == "row":
            return [_object(value, "row")]
        if name == "image":
            return [{"b64": value}]
        if name == "text":
            return [text_instance(spec, _text(value))]
        if name == "rows":
            return [{"rows": value}]
        return _listed(value)


def question_of(data: bytes, key: str, position: str) -> Question:
    """Read a record's bytes.

    Args:
        data: The record's own bytes.
        key: Its partition key.
        position: Where it is; its id unless it has one.

    Raises:
        BadRequest: It isn't a question; says what is missing or wrong.
    """
    if data.lstrip()[:1] != b"{":
        model, _, rest = key.partition("/")
        if not rest or not data:
            raise BadRequest("The record is neither a JSON object nor of a key such as MODEL/KEY.", _EXAMPLE)
        return Question(model, None, position, data)
    document = _document(data)
    unknown = sorted(set(document) - _FIELDS)
    if unknown:
        raise BadRequest(f"The record has unknown fields: {', '.join(map(repr, unknown[:5]))[:200]}.", _EXAMPLE)
    given = [name for name in _PAYLOADS if name in document]
    if len(given) != 1:
        what = "nothing to predict" if not given else f"{' and '.join(given)}"
        raise BadRequest(f"The record has {what}.", f"Give one of {', '.join(_PAYLOADS)}.")
    return Question(_name(document), _version(document), _id(document, position), {given[0]: document[given[0]]})


def _document(data: bytes) -> dict[str, Any]:
    try:
        # Not of bytes: those json decodes with halves of surrogate pairs, which are no text that could be sent on.
        document: dict[str, Any] = json.loads(data.decode())
        if b"\\u" in data:
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The record isn't UTF-8: byte {error.start} is wrong.", "Send JSON as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The record isn't valid JSON: {str(error)[:200]}.", _EXAMPLE) from error
    return document


def _name(document: Mapping[str, Any]) -> str:
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("The record names no model.", _EXAMPLE)
    return model


def _version(document: Mapping[str, Any]) -> str | None:
    version = document.get("version")
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int | str):
        raise BadRequest(f"The record's version is {str(version)[:40]!r}.", "Versions are whole numbers, such as 1.")
    return str(version)


def _id(document: Mapping[str, Any], position: str) -> str:
    value = document.get("id", position)
    if isinstance(value, bool) or not isinstance(value, int | str) or not 0 < len(str(value)) <= MAX_ID_CHARACTERS:
        raise BadRequest(
            "The record's id isn't a text or a whole number.", f"Give 1 to {MAX_ID_CHARACTERS} characters, or none."
        )
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadRequest("The record's text isn't a text.", _EXAMPLE)
    return value


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"The record's {name} isn't an object.", _EXAMPLE)
    return value


def _listed(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise BadRequest("The record's instances aren't a list of objects.", _EXAMPLE)
    if len(value) > MAX_INSTANCES:
        raise TooLarge(
            f"The record has {len(value):,} instances; {MAX_INSTANCES:,} are allowed.", "Send them in several records."
        )
    return value
