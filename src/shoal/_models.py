"""A served model: what it is, and predictions from it."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from shoal._lifecycle import JSON, Lifecycle
from shoal.connection import Connection
from shoal.errors import BadRequest, ServiceFailed

IMAGE_TYPES = {
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}


@dataclass(frozen=True)
class Prediction:
    """One answer: `label` or `labels` with probabilities (one class, or several at once), `value` (regression), or
    `score` and `anomalous` (anomaly).
    """

    label: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    value: float | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    anomalous: bool | None = None


class Model(Lifecycle):
    """One model and its endpoint.

    Args:
        connection: The cloud that serves it.
        document: The API's entry for it.
    """

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self.document = document

    def __repr__(self) -> str:
        return f"Model({self.name!r}, production={self.production!r})"

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.document["name"])

    @property
    def production(self) -> int | None:
        """The version that the endpoint serves."""
        return self.document.get("production") or (self.document.get("aliases") or {}).get("production")

    @property
    def endpoint(self) -> str:
        """URL that takes predictions."""
        path = f"{self._connection.api}/models/{quote(self.name, safe='')}/predict"
        return str(self.document.get("endpoint") or path)

    def predict(
        self,
        instances: Any,  # noqa: ANN401 - one in, one out; many in, a list out
        *,
        version: int | str | None = None,
        key: str | None = None,
    ) -> Any:  # noqa: ANN401
        """Predict one instance or many.

        Args:
            instances: One instance, or a list of them for many answers. An instance is a path of an image, the bytes
                of an encoded image (PNG, JPEG, …), a row {column: value}, a NumPy array uint8 [H, W] or [H, W, C], or
                a PIL image. The path of a .csv, .json or .jsonl file stands for its rows, and gives a list.
            version: Ask this version, by number or alias; None is the one whose turn it is.
            key: During a canary or an A/B split, the same key always meets the same version.

        Returns:
            A `Prediction` for one instance, a list of them for many, in order.

        Raises:
            BadRequest: Something that can't be an instance, or that the model can't read.
            NotFound: The model doesn't exist any more.
        """
        if isinstance(instances, str | Path) and Path(instances).suffix.lower() in (".csv", ".json", ".jsonl"):
            instances = read_rows(Path(instances))
        sent = _Sent({} if version is None else {"version": str(version)}, {"Shoal-Key": key} if key else {})
        if isinstance(instances, list | tuple):
            return self._post(JSON, to_json({"instances": [to_instance(instance) for instance in instances]}), sent)
        if isinstance(instances, Mapping):
            return self._post(JSON, to_json({"instances": [dict(instances)]}), sent)[0]
        content_type, image = to_image(instances)
        return self._post(content_type, image, sent)[0]

    def _post(self, content_type: str, body: bytes, sent: _Sent) -> list[Prediction]:
        path = f"/models/{quote(self.name, safe='')}/predict"
        answer = self._connection.request(
            "POST", path, body=body, content_type=content_type, query=sent.query, headers=sent.headers
        )
        try:
            predictions = [_prediction(item) for item in answer["predictions"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ServiceFailed(f"POST {path} was answered without predictions.") from error
        if not predictions and not _is_empty(content_type, body):
            raise ServiceFailed(f"POST {path} was answered with no prediction.")
        return predictions


@dataclass(frozen=True)
class _Sent:
    """What goes with a request beside its body."""

    query: Mapping[str, str]
    headers: Mapping[str, str]


def _is_empty(content_type: str, body: bytes) -> bool:
    return content_type == JSON and not json.loads(body)["instances"]


def _prediction(item: dict[str, Any]) -> Prediction:
    labels = item.get("labels")
    return Prediction(
        item.get("label"),
        item.get("probability"),
        item.get("probabilities") or {},
        item.get("value"),
        None if labels is None else tuple(labels),
        item.get("score"),
        item.get("anomalous"),
    )


def to_image(instance: object) -> tuple[str, bytes]:
    """One image as (content type, encoded bytes)."""
    if isinstance(instance, bytes | bytearray | memoryview):
        return "application/octet-stream", bytes(instance)
    if isinstance(instance, str | Path):
        path = Path(instance)
        try:
            return IMAGE_TYPES.get(path.suffix.lower(), "application/octet-stream"), path.read_bytes()
        except OSError as error:
            raise BadRequest(f"{path} can't be read: {error.strerror or error}.", "Name a file that exists.") from error
    if hasattr(instance, "__array_interface__"):
        return "image/png", _png(instance)
    raise BadRequest(
        f"A {type(instance).__name__} can't be predicted.",
        "Give a path, image bytes, a row {column: value}, a NumPy array, a PIL image, or a list of these.",
    )


def _png(pixels: object) -> bytes:
    """PNG of a NumPy array (uint8 [H, W] or [H, W, C]) or a PIL image, which is one through its array interface."""
    from PIL import Image  # only these callers need Pillow

    try:
        picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(_as_uint8(pixels))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
    except (TypeError, ValueError, OSError) as error:
        raise BadRequest(f"The array isn't an image: {error}.", "Give uint8 [H, W], [H, W, 3] or [H, W, 4].") from error
    return buffer.getvalue()


def _as_uint8(pixels: object) -> Any:  # noqa: ANN401 - NumPy's own annotation of uint8 arrays says no more
    import numpy as np

    array = np.asarray(pixels)
    if array.dtype != np.uint8:
        # Guessing a scale (0..1? 0..16?) would predict nonsense in silence.
        raise ValueError(f"its type is {array.dtype}, not uint8")
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def to_instance(instance: object) -> dict[str, Any]:
    """One instance of a list, as JSON: a row stays one, an image becomes {"b64"}."""
    if isinstance(instance, Mapping):
        return dict(instance)
    return {"b64": base64.b64encode(to_image(instance)[1]).decode("ascii")}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV (with a header; empty fields are missing), JSON or JSON Lines file."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} can't be read: {error}.", "Name a UTF-8 file that exists.") from error
    if path.suffix.lower() == ".csv":
        return _csv_rows(text, path)
    if path.suffix.lower() == ".jsonl":
        return parse_lines(text, str(path))
    return parse_rows(text, str(path))


def _csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, [])
    rows = []
    for values in lines:
        if not values:
            continue
        if len(values) != len(header):
            raise BadRequest(
                f"{path}, line {lines.line_num}: {len(values)} fields, but the header has {len(header)}.",
                "Give every line as many fields as the header.",
            )
        rows.append({column: value or None for column, value in zip(header, values, strict=True)})
    return rows


def parse_lines(text: str, where: str) -> list[dict[str, Any]]:
    """Rows of JSON Lines. Texts may hold other characters that Unicode calls line breaks."""
    return [row for line in text.split("\n") if line.strip() for row in parse_rows(line, where)]


def parse_rows(text: str, where: str = "the JSON") -> list[dict[str, Any]]:
    """Rows of a JSON text: one object, a list of objects, or {"instances": [...]}."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"{where} isn't valid JSON: {error}.", 'Write a row as {"column": value}.') from error
    if isinstance(document, dict):
        document = document.get("instances", [document])
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise BadRequest(f"{where} holds no rows.", 'Write a row as {"column": value}, several as a list.')
    return document


def to_json(document: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """The document's JSON; NumPy scalars in rows count as numbers."""

    def plain(value: Any) -> Any:  # noqa: ANN401 - json's own hook
        if hasattr(value, "item"):
            return value.item()
        raise BadRequest(f"A row holds a {type(value).__name__}.", "Use text, numbers, true, false or null.")

    try:
        return json.dumps(document, default=plain, allow_nan=False).encode()
    except ValueError as error:
        raise BadRequest("A row holds NaN or infinity.", "Write None for a missing value.") from error
