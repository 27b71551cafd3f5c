"""A batch job, as the API tells it: many records through one version of a model."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from shoal._runs import FINAL, POLL_SECONDS, POLL_SECONDS_ON_AWS, wait_until_finished
from shoal.connection import Connection
from shoal.errors import BatchFailed, NotFound, ServiceFailed, WaitTimedOut
from shoal.uploads import Placed, Upload, Uploader

APPEAR_SECONDS = 60.0
LONGEST_CELL = 64 * 1024**2
STAGES = ("Plan Batch", "Predict Batch", "Commit Batch")


class BatchJob:
    """One job. The properties show what the API said last; `refresh` and `wait` ask again.

    Args:
        connection: The cloud that has it.
        document: The API's Batch object.
    """

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self.document = document

    def __repr__(self) -> str:
        return f"BatchJob({self.id!r}, status={self.status!r})"

    @property
    def id(self) -> str:
        """MODEL/JOB."""
        return str(self.document["id"])

    @property
    def model(self) -> str:
        """The model that answers."""
        return str(self.document["model"])

    @property
    def status(self) -> str:
        """waiting, running, succeeded or failed."""
        return str(self.document.get("status", ""))

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in FINAL

    @property
    def stage(self) -> str:
        """The state that it is in."""
        return str(self.document.get("stage") or "")

    @property
    def records(self) -> int:
        """Records done so far, those with an error included."""
        return int(self.document.get("records") or 0)

    @property
    def error_count(self) -> int:
        """Records that have an error instead of a prediction."""
        return int(self.document.get("errors") or 0)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far."""
        return float(self.document.get("seconds") or 0)

    @property
    def cost_usd(self) -> float:
        """Estimated cost on AWS so far, in US dollars."""
        return float(self.document.get("cost_usd") or 0)

    @property
    def failure(self) -> dict[str, Any] | None:
        """{"stage", "error", "reason", "fix"} of a failed job, else None."""
        return self.document.get("failure") or None

    @property
    def output(self) -> dict[str, Any]:
        """Keys of the output in the artifacts bucket: prefix, manifest, parts, predictions. Empty until it is there."""
        return dict(self.document.get("output") or {})

    def refresh(self) -> BatchJob:
        """Ask the API for the newest state; returns the job itself."""
        self.document = self._connection.request("GET", self._path)
        return self

    def errors(self, limit: int = 100) -> list[dict[str, Any]]:
        """The first records without a prediction: file, place, code, reason, fix, and what was sent."""
        answer = self._connection.request("GET", f"{self._path}/errors", query={"limit": str(limit)})
        return list(answer["errors"])

    def wait(self, timeout: float | None = None, on_progress: Callable[[BatchJob], None] | None = None) -> BatchJob:
        """Wait until the job has ended.

        Args:
            timeout: Seconds to wait; None waits as long as it takes.
            on_progress: Called with the job at once, then after every change.

        Returns:
            The job itself, succeeded.

        Raises:
            BatchFailed: The job as a whole failed; the message has the reason and the fix.
            WaitTimedOut: The time is over; the job goes on.
            ConnectionFailed, ServiceFailed: The API was away for a minute.
        """
        wait_until_finished(self, self._connection, timeout, on_progress, _timed_out)
        if self.status == "failed":
            raise BatchFailed(self)
        return self

    def manifest(self) -> dict[str, Any]:
        """What the job has made: counts, the model's version and digest, files with sha256, time and cost.

        Raises:
            NotFound: The job hasn't succeeded (yet).
        """
        if not self.output:
            raise NotFound(f"Job {self.id} has no output: it is {self.status}.", "Wait for it: `job.wait()`.")
        from shoal._shards import read_object  # numpy takes a tenth of a second, which most commands don't need

        return dict(json.loads(read_object(self._connection, self.output["manifest"])))

    def download(self, folder: str | Path) -> list[Path]:
        """Save the output (one file where there is one, else all parts) and the manifest; their paths.

        Raises:
            NotFound: The job hasn't succeeded (yet).
            ServiceFailed: What came isn't what the manifest says.
        """
        from shoal._shards import fetch  # as above

        manifest, target = self.manifest(), Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        paths = [
            fetch(self._connection, self._entry(file), target / str(file["key"]).rpartition("/")[2], verify=True)
            for file in ([manifest["predictions"]] if manifest["predictions"] else manifest["parts"])
        ]
        path = target / "manifest.json"
        path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        return [*paths, path]

    def results(self) -> Iterator[dict[str, Any]]:
        """The records with their predictions, in the order in which they were sent.

        Each is what a row of the output holds: the columns of a table (text, where it is CSV), or the fields of JSON.
        Parts are read one after the other, so memory is bounded by a record (of JSON arrays and Parquet, by a part).

        Raises:
            NotFound: The job hasn't succeeded (yet).
        """
        for part in self.manifest()["parts"]:
            with self._fetched(part) as path:
                yield from read_records(path, part.get("delimiter") or None, part.get("quote") or '"')

    @contextmanager
    def _fetched(self, part: dict[str, Any]) -> Iterator[Path]:
        from shoal._shards import fetch  # as above

        with tempfile.TemporaryDirectory(prefix="shoal-batch-") as folder:
            yield fetch(self._connection, self._entry(part), Path(folder) / str(part["key"]).rpartition("/")[2])

    def _entry(self, file: dict[str, Any]) -> dict[str, Any]:
        return {"key": self.output["prefix"] + file["key"], "bytes": file["size"], "sha256": file["sha256"]}

    @property
    def _path(self) -> str:
        return "/batches/" + "/".join(quote(part, safe="") for part in self.id.split("/"))


def _timed_out(job: BatchJob, timeout: float) -> WaitTimedOut:
    return WaitTimedOut(job, timeout, "Job", "shoal batch show")


def read_records(path: Path, delimiter: str | None = None, quote: str = '"') -> Iterator[dict[str, Any]]:
    """The records of one output file, told by its name.

    Args:
        path: The file.
        delimiter: How the cells of CSV are divided; None finds it in the header.
        quote: The character around cells that need one.
    """
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        import duckdb  # a tenth of a second, which only these need

        with duckdb.connect() as database:
            found = database.execute("SELECT * FROM read_parquet(?)", [str(path)])
            columns = [column[0] for column in found.description or []]
            while rows := found.fetchmany(1000):
                yield from (dict(zip(columns, row, strict=True)) for row in rows)
        return
    with _opened(path) as file:
        if name.endswith(".json"):
            yield from json.load(file)
        elif name.endswith((".csv", ".tsv")):
            yield from _csv_records(csv.DictReader(file, delimiter=delimiter or _delimiter(path), quotechar=quote))
        else:
            yield from (json.loads(line) for line in file if line.strip())


def _csv_records(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    while True:
        # A vector is JSON in one cell. The limit is the whole process's, so it is raised for a row at a time.
        limit = csv.field_size_limit()
        csv.field_size_limit(max(limit, LONGEST_CELL))
        try:
            row = next(rows, None)
        finally:
            csv.field_size_limit(limit)
        if row is None:
            return
        yield row


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as packed:
            yield packed
    elif path.suffix == ".zst":
        import zstandard  # few tables are packed with it

        with path.open("rb") as file:
            # A run of records is a frame of its own.
            plain = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            yield io.TextIOWrapper(plain, encoding="utf-8", newline="")
    else:
        with path.open(encoding="utf-8", newline="") as text:
            yield text


def _delimiter(path: Path) -> str:
    """What stands before the last column, whose name ends in `error_fix`; the one before it in `error_reason`."""
    with _opened(path) as file:
        header = file.readline()
    return header[header.rfind("error_reason") + len("error_reason") :][:1] or ","


def start_batch(uploader: Uploader, connection: Connection, upload: Upload) -> BatchJob:
    """Upload the records of a job, and wait until the job can be seen.

    Raises:
        ServiceFailed: The files are there, but no job started within a minute.
    """
    placed = uploader.put()
    model, _, name = str(upload.batch).partition("/")
    pause = POLL_SECONDS if connection.aws_endpoint else POLL_SECONDS_ON_AWS
    deadline = time.monotonic() + APPEAR_SECONDS
    while True:
        for document in connection.request("GET", "/batches", query={"model": model})["batches"]:
            if _is_of(document, placed):
                return BatchJob(connection, document)
        if time.monotonic() >= deadline:
            raise ServiceFailed(
                f"The records of job {model}/{name} are uploaded, but it hasn't started within {APPEAR_SECONDS:g} s.",
                "Look into `shoal logs ingest_upload`, and try `shoal doctor`.",
            )
        time.sleep(pause)


def _is_of(document: dict[str, Any], placed: Placed) -> bool:
    source = {(item.get("key"), item.get("version")) for item in document.get("source") or []}
    return bool(source & placed.written)
