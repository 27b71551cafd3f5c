"""Commands about models: models, model, predict."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from shoal._models import Model, Prediction, parse_lines, parse_rows, read_rows
from shoal.cli.importing import write_origin
from shoal.cli.output import Output, common, headline, number
from shoal.client import connect
from shoal.errors import BadRequest, NotFound

ROW_SUFFIXES = (".csv", ".json", ".jsonl")


@click.command()
@common()
def models(stack: str | None, out: Output) -> None:
    """List models."""
    found = connect(stack).models()
    out.document({"models": [model.document for model in found]})
    rows = [
        (
            model.name,
            model.production,
            model.document.get("versions"),
            model.document.get("task"),
            headline(model.document.get("metrics")),
            model.document.get("updated_at"),
        )
        for model in found
    ]
    columns = ("MODEL", "PRODUCTION", "VERSIONS", "TASK", "TEST", "UPDATED")
    out.table(columns, rows, right=("PRODUCTION", "VERSIONS"))
    if not found:
        out.line("No models yet; train one with: shoal push PATH")


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--version", type=click.IntRange(1), help="Which version's candidates to show; the one in production.")
@common()
def model(name: str, version: int | None, stack: str | None, out: Output) -> None:
    """Show MODEL: its versions, and what was measured before one of them was served."""
    found = connect(stack).model(name)
    out.document(found.document)
    out.table(
        ("VERSION", "SERVES", "TEST", "BYTES", "SERVED AS", "DATASET VERSION", "CREATED"),
        [
            (
                entry["version"],
                serves(found.document, entry["version"]),
                headline(entry.get("metrics")),
                number(entry.get("bytes")),
                (entry.get("optimization") or {}).get("served"),
                entry.get("dataset_version"),
                entry.get("created_at"),
            )
            for entry in found.document["versions"]
        ],
        right=("VERSION", "BYTES"),
    )
    wanted = version or found.production
    entry = next((entry for entry in found.document["versions"] if entry["version"] == wanted), None)
    if entry is None:
        raise NotFound(f"Model {name!r} has no version {wanted}.", f"See `shoal model {name}` for its versions.")
    promotion = entry.get("promotion") or {}
    if promotion:
        out.line()
        out.line(f"Version {wanted}: {promotion['decision']}, {promotion['reason']}")
    _candidates(entry, out)
    write_origin(entry, found.document, out)


def serves(document: dict[str, Any], version: int) -> str:
    """The aliases that point at a version, and its share of the requests where it isn't all or nothing."""
    names = ", ".join(name for name, number_ in document["aliases"].items() if number_ == version)
    shares = (document.get("traffic") or {}).get("shares", [])
    share = next((entry["percent"] for entry in shares if entry["version"] == version), 0.0)
    return f"{names} {share:g} %".strip() if 0 < share < 100 else names


def _candidates(entry: dict[str, Any], out: Output) -> None:
    """The table of what could have been served."""
    measured = entry.get("optimization") or {}
    if not measured:
        return
    out.line()
    out.line(
        f"Version {entry['version']}: measured on {measured['samples']:,} samples of the {measured['split']} split"
    )
    out.table(
        ("CANDIDATE", str(measured["metric"]).upper(), "AGREES", "MS AT 1", "MS AT 64", "BYTES", ""),
        [
            (
                candidate["name"],
                number(candidate.get("metric")),
                None if candidate.get("agreement") is None else f"{candidate['agreement']:.2%}",
                number(candidate["latency_ms"].get("1")),
                number(candidate["latency_ms"].get("64")),
                number(candidate.get("bytes")),
                "served" if candidate["name"] == measured["served"] else candidate.get("reason"),
            )
            for candidate in measured["candidates"]
        ],
        right=("AGREES", "MS AT 1", "MS AT 64", "BYTES"),
    )


@click.command()
@click.argument("model")
@click.argument("inputs", metavar="FILE|JSON|-...", nargs=-1, required=True)
@click.option("--version", help="Ask this version, by number or alias; the one whose turn it is when left out.")
@click.option("--key", help="The same key always meets the same version, during a canary or an A/B split.")
@common()
def predict(
    model: str, inputs: tuple[str, ...], version: str | None, key: str | None, stack: str | None, out: Output
) -> None:
    """Predict with MODEL.

    An input is an image file, a file of rows (.csv, .json, .jsonl), a row as JSON text, or - for an image or JSON on
    stdin. Several inputs give several predictions, in order.
    """
    named = [pair for text in inputs for pair in _instances(text)]
    if not named:
        raise BadRequest("The input holds no rows.", "Give at least one row or image.")
    served = Model(connect(stack).connection, {"name": model})
    values = [instance for _, instance in named]
    asked: Any = values[0] if len(values) == 1 else values
    answer = served.predict(asked, version=version, key=key)
    predictions = [answer] if len(values) == 1 else answer
    out.document({"model": model, "predictions": [_plain(prediction) for prediction in predictions]})
    rows = [
        (name, _answer(prediction), _percent(prediction))
        for (name, _), prediction in zip(named, predictions, strict=True)
    ]
    out.table(("INPUT", "PREDICTION", "PROBABILITY"), rows, right=("PROBABILITY",))


def _plain(prediction: Prediction) -> dict[str, Any]:
    return {field: value for field, value in dataclasses.asdict(prediction).items() if value not in (None, {})}


def _answer(prediction: Prediction) -> object:
    if prediction.labels is not None:
        return ", ".join(prediction.labels) or "(none)"
    if prediction.anomalous is not None:
        score = "" if prediction.score is None else f", score {prediction.score:.4f}"
        return f"{'anomalous' if prediction.anomalous else 'normal'}{score}"
    return prediction.label if prediction.label is not None else prediction.value


def _percent(prediction: Prediction) -> str | None:
    return None if prediction.probability is None else f"{prediction.probability:.1%}"


def _instances(text: str) -> list[tuple[str, Any]]:
    """(name, instance) of everything that one argument stands for."""
    if text == "-":
        return _stdin()
    if text.lstrip()[:1] in ("{", "["):
        return _numbered("row", parse_rows(text))
    if Path(text).suffix.lower() in ROW_SUFFIXES:
        return _numbered(Path(text).name, read_rows(Path(text)))
    if not Path(text).is_file():
        raise BadRequest(f"{text!r} is neither a file nor JSON.", 'Give an image, or a row as {"column": value}.')
    return [(Path(text).name, Path(text).read_bytes())]


def _stdin() -> list[tuple[str, Any]]:
    data = sys.stdin.buffer.read()
    if data.lstrip()[:1] not in (b"{", b"["):
        return [("stdin", data)]
    try:
        lines = data.decode("utf-8-sig").strip()
        json.loads(lines)
        return _numbered("stdin", parse_rows(lines))
    except UnicodeDecodeError as error:
        raise BadRequest("stdin holds JSON that isn't UTF-8.", "Send UTF-8 text.") from error
    except ValueError:  # several documents: JSON Lines
        return _numbered("stdin", parse_lines(lines, "stdin"))


def _numbered(name: str, rows: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(f"{name}:{index}", row) for index, row in enumerate(rows, 1)]


COMMANDS = (models, model, predict)
