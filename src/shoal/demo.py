"""`shoal demo`: the whole job on real handwritten digits, from an upload to predictions over plain HTTP."""

from __future__ import annotations

import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from shoal._runs import Run
from shoal.cli.output import FAILED, Output
from shoal.client import Client, connect
from shoal.connection import project_folder
from shoal.errors import BadRequest, ConnectionFailed, RunFailed, ServiceFailed, from_response
from shoal.progress import dollars_text, seconds_text, show, stage_name

NAME = "digits"
REQUEST_SECONDS = 35
SCORES = {"accuracy": "accuracy", "precision": "macro precision", "recall": "macro recall", "f1": "macro F1"}


@dataclass(frozen=True)
class Answer:
    """One held-out image: what it is, and what the endpoint said."""

    file: str
    truth: str
    label: str
    probability: float


def examples_folder() -> Path:
    """Where the digits are: in the current folder's clone, or the one that the package was installed from."""
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        folder = root / "examples" / NAME
        if (folder / "digits.zip").is_file():
            return folder
    raise BadRequest("examples/digits/digits.zip isn't here.", "Run the demo in a clone of Shoal's repository.")


def run_demo(out: Output, stack: str | None = None) -> int:
    """Run the demo.

    Args:
        out: Where to write.
        stack: A stack on AWS; None starts the embedded cloud, and leaves it up.

    Returns:
        The exit status: 0, or 1 when the run failed.

    Raises:
        ShoalError: The cloud, the upload or a prediction couldn't be had.
    """
    folder = examples_folder()
    if stack is None:
        _start_cloud(out)
    client = connect(stack)
    archive = folder / "digits.zip"
    out.line(f"Upload   PutObject s3://{client.connection.bucket}/datasets/{NAME}/{archive.name}", style="bold")
    run = client.push(archive, name=NAME)
    if run.unchanged:
        out.line(f"unchanged: the same bytes were there, these are the numbers of run {run.id}")
    out.line()
    try:
        if out.as_json:
            run.wait()
        else:
            with show(out.console) as view:
                run.wait(on_progress=view.update)
    except RunFailed as error:
        out.document({"run": run.document, "unchanged": run.unchanged})
        if not out.as_json:
            out.error(error)
        return FAILED
    _report(out, client, run, folder)
    return 0


def _start_cloud(out: Output) -> None:
    from shoal.local import lifecycle

    cloud = lifecycle.up(project_folder(), detach=True)
    how = "was running" if cloud.already_running else f"ready in {cloud.ready_seconds:.1f} s"
    out.line(f"Cloud    {how}: AWS at {cloud.aws_endpoint}, HTTP API at {cloud.api}", style="bold")


def _report(out: Output, client: Client, run: Run, folder: Path) -> None:
    """Predict the held-out images, then write everything that the demo is about."""
    model = str((run.model or {}).get("name") or NAME)
    url = f"{client.connection.api}/models/{model}/predict"
    images = sorted((folder / "held-out").glob("*.png"))
    answers = [_predict(url, client.connection.token, image) for image in images]
    right = sum(answer.label == answer.truth for answer in answers)
    out.document(
        {
            "run": run.document,
            "unchanged": run.unchanged,
            "endpoint": url,
            "held_out": [asdict(answer) for answer in answers],
            "held_out_accuracy": right / len(answers),
        }
    )
    out.line()
    out.line(f"Held-out images, posted to the endpoint: {right} of {len(answers)} right", style="bold")
    _write_answers(out, answers)
    out.line()
    out.line("Test split", style="bold")
    for name, title in SCORES.items():
        if isinstance(run.metrics.get(name), int | float):
            out.line(f"{title:<18} {run.metrics[name]:.4f}")
    out.line()
    _write_stages(out, run)
    _write_endpoint(out, url, client.connection.token, images[0])
    if client.connection.aws_endpoint:
        out.line("The cloud stays up; stop it with: make down")


def _predict(url: str, token: str, image: Path) -> Answer:
    """One image posted as any HTTP client would; none of the SDK takes part."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/png"}
    request = urllib.request.Request(url, image.read_bytes(), headers, method="POST")  # noqa: S310 - the API's own URL
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
            best = json.load(answer)["predictions"][0]
        return Answer(image.name, image.name.partition("-")[0], str(best["label"]), float(best["probability"]))
    except urllib.error.HTTPError as error:
        raise from_response(error.code, error.read(), f"POST {url}") from error
    except OSError as error:
        raise ConnectionFailed(f"{url} doesn't answer: {error}.", "Look into `shoal logs predict`.") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ServiceFailed(f"POST {url} was answered without a prediction for {image.name}.") from error


def _write_answers(out: Output, answers: Sequence[Answer]) -> None:
    """One row per class: the truth, then what was predicted for each of its images."""
    rows: dict[str, list[str]] = {}
    for answer in answers:
        mark = "" if answer.label == answer.truth else "  WRONG"
        rows.setdefault(answer.truth, []).append(f"{answer.label}  {answer.probability:6.1%}{mark}")
    width = max(len(cells) for cells in rows.values())
    columns = ["TRUTH", *(f"PREDICTED {index}" for index in range(1, width + 1))]
    out.table(columns, [[truth, *cells, *[None] * (width - len(cells))] for truth, cells in rows.items()])


def _write_stages(out: Output, run: Run) -> None:
    rows: list[list[object]] = [
        [
            stage_name(str(stage["name"])),
            seconds_text(float(stage["seconds"])),
            stage["invocations"],
            f"{stage['gb_seconds']:.2f}",
            dollars_text(float(stage["cost_usd"])),
        ]
        for stage in run.stages
    ]
    gb_seconds = float(run.document.get("gb_seconds") or 0)
    calls = sum(int(stage["invocations"]) for stage in run.stages)
    rows.append(["whole run", seconds_text(run.seconds), calls, f"{gb_seconds:.2f}", dollars_text(run.cost_usd)])
    columns = ("STAGE", "TIME", "INVOCATIONS", "GB-SECONDS", "COST ON AWS")
    out.table(columns, rows, right=columns[1:])
    out.line("Costs are estimates: us-east-1 prices for what was measured here; stages of a loop overlap.")


def _write_endpoint(out: Output, url: str, token: str, image: Path) -> None:
    shown = image.relative_to(Path.cwd()) if image.is_relative_to(Path.cwd()) else image
    out.line()
    out.line(f"Endpoint  {url}", style="bold")
    out.line(
        f"curl -H {shlex.quote(f'Authorization: Bearer {token}')} -H 'Content-Type: image/png' "
        f"--data-binary @{shlex.quote(str(shown))} {shlex.quote(url)}"
    )
    out.line()
