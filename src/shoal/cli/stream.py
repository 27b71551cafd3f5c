"""Commands about streams: send, tail, dead list, dead replay."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import IO, Any, Literal

import click

from shoal._models import parse_rows, read_rows
from shoal._streams import Streams
from shoal.cli.output import Output, common
from shoal.client import connect
from shoal.errors import BadRequest

TABLES = (".csv", ".json")


@click.group()
def stream() -> None:
    """Records that are answered as they come: send, tail, dead."""


@stream.command("send")
@click.argument("model")
@click.argument("inputs", metavar="FILE|-...", nargs=-1, required=True)
@click.option("--key", metavar="COLUMN", help="Rows with the same value in this column are answered in order.")
@click.option("--version", metavar="N|ALIAS", help="Who shall answer; the version in production when left out.")
@click.option("--queue", is_flag=True, help="Send to the queue, which every stack has, and which knows no order.")
@common()
def send(
    model: str,
    inputs: tuple[str, ...],
    key: str | None,
    version: str | None,
    queue: bool,
    stack: str | None,
    out: Output,
) -> None:
    """Send records to MODEL.

    FILE|-... are rows (.csv, .json, .jsonl), images, or - for JSON Lines on stdin.
    """
    streams = _streams(stack)
    names: deque[str] = deque()

    def values() -> Iterator[Any]:
        for text in inputs:
            for name, value in _inputs(text):
                names.append(name)
                yield value

    # Neither files nor stdin are read as a whole: one may be large, and the other a pipe that goes on.
    ids = (names.popleft() for _ in count())
    to: Literal["stream", "queue"] = "queue" if queue else "stream"
    sent = streams.send(model, values(), ids=ids, key=key, version=version, to=to)
    out.document({"model": model, "sent": len(sent), "ids": sent})
    out.line(f"{len(sent):,} records sent to {streams.requests}; see their answers with: shoal stream tail")


def _inputs(text: str) -> Iterator[tuple[str, Any]]:
    """(name, instance) of everything that one argument stands for."""
    if text == "-":
        yield from _rows(sys.stdin.buffer, "stdin")
        return
    path = Path(text)
    if not path.is_file():
        raise BadRequest(f"{text!r} isn't a file.", "Give images, .csv, .json or .jsonl files, or - for stdin.")
    if path.suffix.lower() in TABLES:
        for number, row in enumerate(read_rows(path), 1):
            yield f"{path.name}:{number}", row
    elif path.suffix.lower() == ".jsonl":
        with path.open("rb") as lines:
            yield from _rows(lines, path.name)
    else:
        yield path.name, path.read_bytes()


def _rows(lines: IO[bytes], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of JSON Lines, named by the line that they are in."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows = parse_rows(line.decode("utf-8-sig"), f"{name}, line {number}")
        except UnicodeDecodeError as error:
            raise BadRequest(f"{name}, line {number} isn't UTF-8.", "Send UTF-8 text.") from error
        for row in rows:
            yield f"{name}:{number}", row


@stream.command("tail")
@click.option("-f", "--follow", is_flag=True, help="Wait for more.")
@click.option("--now", is_flag=True, help="Leave out what is there already; with --follow.")
@click.option("--s3", is_flag=True, help="What was written to S3, records that died among it.")
@common()
def tail(follow: bool, now: bool, s3: bool, stack: str | None, out: Output) -> None:
    """Show answers, one a line; with --json as JSON Lines."""
    streams = _streams(stack)
    found = streams.journal() if s3 else streams.answers(start="now" if now else "beginning", follow=follow)
    try:
        for answer in found:
            if out.as_json:
                click.echo(json.dumps(answer, sort_keys=True))
            else:
                out.line(_answer(answer))
    except KeyboardInterrupt:
        return


def _answer(answer: dict[str, Any]) -> str:
    if "predictions" not in answer:
        return f"{answer.get('origin')}  {answer.get('error', 'repeated')}  {answer.get('reason', '')}"
    what = ", ".join(_prediction(each) for each in answer["predictions"])
    took = _moment(answer["answered_at"]) - _moment(answer["arrived_at"])
    return f"{answer['id']}  {answer['model']} {answer['version']}  {what}  {took.total_seconds() * 1000:,.0f} ms"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _prediction(prediction: dict[str, Any]) -> str:
    if "labels" in prediction:
        return " + ".join(prediction["labels"]) or "(none)"
    if "label" in prediction:
        label, probability = prediction["label"], prediction.get("probability")
        return ("(none)" if label is None else str(label)) + ("" if probability is None else f" {probability:.1%}")
    if "anomalous" in prediction:
        return f"{'anomalous' if prediction['anomalous'] else 'normal'} {prediction['score']}"
    return str(prediction.get("value"))


@stream.group("dead")
def dead() -> None:
    """Dead letters, records that can't be answered as they are: list, replay."""


@dead.command("list")
@click.option("--model", metavar="MODEL", help="Only those that asked this model.")
@click.option("--limit", type=click.IntRange(1, 2000), default=100, show_default=True, help="At most so many.")
@common()
def dead_list(model: str | None, limit: int, stack: str | None, out: Output) -> None:
    """List dead letters with the reason and what to do."""
    letters, more = _streams(stack).dead_letters(model, limit)
    out.document({"letters": letters, "more": more})
    out.table(
        ("ID", "RECORD", "MODEL", "TRIED", "WHY", "WHAT TO DO"),
        [
            (each["id"], each.get("record_id"), each.get("model"), each["attempts"], each["reason"], each.get("fix"))
            for each in letters
        ],
        right=("TRIED",),
    )
    if not letters:
        out.line("No dead letters.")
    elif more:
        out.line("There are more.")


@dead.command("replay")
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--model", metavar="MODEL", help="Only those that asked this model.")
@common()
def dead_replay(ids: tuple[str, ...], model: str | None, stack: str | None, out: Output) -> None:
    """Put records of dead letters back, in order, each once, after what was wrong is mended.

    ID... are the letters; all of them when left out.
    """
    answer = _streams(stack).replay(list(ids) or None, model)
    out.document(answer)
    out.line(f"{answer['replayed']:,} records are back; see their answers with: shoal stream tail")
    for name, reason in answer["kept"].items():
        out.line(f"{name} stays: {reason}")


def _streams(stack: str | None) -> Streams:
    return Streams(connect(stack).connection)


COMMANDS = (stream,)
